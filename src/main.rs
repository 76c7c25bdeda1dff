//! The command line. Exit codes: 0 clean, 1 bad configuration or no start, 2 usage.

mod cli;

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Flags, LoadError, Settings};
use streamkeeper::reload::{Reasons, Source};
use streamkeeper::run::bind;
use streamkeeper::{descriptors, telemetry, version};
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command, RunArgs};

/// Streams come and go in thousands, and what they leave behind between those that stay decides how much memory the
/// process holds; of the allocators measured (docs/performance.md) this one wastes least.
#[global_allocator]
static ALLOCATOR: streamkeeper_allocator::Jemalloc = streamkeeper_allocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => match settings(arguments) {
            Ok((settings, source)) => start(settings, source),
            Err(refusal) => refuse(refusal),
        },
        Command::Check { config } => {
            match config::load(&config, &Flags::default()).map_err(Refusal::from).and_then(checked) {
                Ok(_) => {
                    say(&format!("{}: no problem", config.display()));
                    ExitCode::SUCCESS
                }
                Err(refusal) => refuse(refusal),
            }
        }
        Command::Health { admin } => match cli::health::ask(admin) {
            Ok(()) => {
                say("ready");
                ExitCode::SUCCESS
            }
            Err(problem) => refuse(Refusal { problem, exit: 1 }),
        },
        Command::Demo { listen, upstream_only: true, .. } => upstream_alone(listen),
        Command::Demo { listen, admin, .. } => demo(listen, admin),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            let shell = clap_complete::Shell::from(shell);
            clap_complete::generate(shell, &mut Cli::command(), "streamkeeper", &mut text);
            print(&text)
        }
        Command::Man => {
            let mut text = Vec::new();
            match cli::manual::write(Cli::command(), &mut text) {
                Ok(()) => print(&text),
                Err(error) => failed(&error),
            }
        }
    }
}

/// What to run with, and where it can be read again.
fn settings(arguments: RunArgs) -> Result<(Settings, Option<Source>), Refusal> {
    let RunArgs { config, listen, upstream, admin } = arguments;
    let without_file = config.is_none() && upstream.is_some();
    let flags = Flags { listen, admin, upstream };
    if without_file {
        return Ok((checked(config::without_file(&flags)?)?, None));
    }
    let path = config.unwrap_or_else(|| "config.toml".into());
    Ok((checked(config::load(&path, &flags)?)?, Some(Source { path, flags })))
}

/// What the configuration alone cannot judge.
fn checked(settings: Settings) -> Result<Settings, Refusal> {
    let unfit = |error| Refusal { problem: streamkeeper::upstream::chain(&error), exit: 1 };
    streamkeeper::live::check(&settings).map_err(unfit)?;
    Ok(settings)
}

/// Why nothing is started, and the exit code that says so.
struct Refusal {
    problem: String,
    exit: u8,
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        let exit = if matches!(error, LoadError::SeveralUpstreams { .. }) { 2 } else { 1 };
        Self { problem: streamkeeper::upstream::chain(&error), exit }
    }
}

fn start(settings: Settings, source: Option<Source>) -> ExitCode {
    in_runtime(async move {
        let _flush = telemetry::logs::install(&settings.telemetry)?;
        // Before anybody is told that this process is there.
        let shutdown = shutdown()?;
        descriptors::warn_if_scarce(descriptors::raise(), settings.limits.connections);
        let metrics = telemetry::metrics::install()?;
        let bound = bind(settings, Entropy::System).await?.on_workers()?.reloading(Reasons::new(source)?);
        if let (Ok(data), Ok(admin)) = (bound.data_address(), bound.admin_address()) {
            tracing::info!(%data, %admin, version = version::BUILD, "listening");
        }
        bound.serve(metrics, shutdown).await;
        Ok(())
    })
}

fn demo(listen: SocketAddr, admin: SocketAddr) -> ExitCode {
    in_runtime(async move {
        let shutdown = shutdown()?;
        let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let settings = streamkeeper::demo::settings(listen, admin, upstream.local_addr()?)?;
        let _flush = telemetry::logs::install(&settings.telemetry)?;
        let metrics = telemetry::metrics::install()?;
        let bound = bind(settings, Entropy::System).await?.on_workers()?;
        say(&streamkeeper::demo::greeting(bound.data_address()?, bound.admin_address()?));
        let service = tokio::spawn(streamkeeper::demo::upstream::serve(upstream, std::future::pending()));
        bound.serve(metrics, shutdown).await;
        service.abort();
        Ok(())
    })
}

/// The demo's upstream where others can reach it, with no proxy before it.
fn upstream_alone(listen: SocketAddr) -> ExitCode {
    in_runtime(async move {
        let shutdown = shutdown()?;
        let listener = tokio::net::TcpListener::bind(listen).await?;
        say(&format!("demo upstream on http://{}", listener.local_addr()?));
        streamkeeper::demo::upstream::serve(listener, shutdown).await?;
        Ok(())
    })
}

/// Done at the first SIGTERM or SIGINT; a second one ends the process at once.
fn shutdown() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
            std::process::exit(0);
        });
    })
}

fn in_runtime(work: impl Future<Output = Result<(), Box<dyn Error>>>) -> ExitCode {
    // Clients are served by workers; what is left for this thread is the admin port, timers and Redis.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

#[allow(clippy::print_stderr, reason = "the command line speaks to a person")]
fn refuse(refusal: Refusal) -> ExitCode {
    eprintln!("{}", refusal.problem);
    ExitCode::from(refusal.exit)
}

#[allow(clippy::print_stderr, reason = "the command line speaks to a person")]
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    eprintln!("streamkeeper: {}", streamkeeper::upstream::chain(error));
    ExitCode::from(1)
}

/// Writes a text for another program, which may have stopped listening: that is its business.
fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed(&error),
        _ => ExitCode::SUCCESS,
    }
}

#[allow(clippy::print_stdout, reason = "the command line speaks to a person")]
fn say(text: &str) {
    println!("{text}");
}
