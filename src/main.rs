//! The command line. Exit codes: 0 clean, 1 bad configuration or no start, 2 usage.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use streamkeeper::clock::Entropy;
use streamkeeper::config::{self, Flags, LoadError, Settings};
use streamkeeper::run::bind;
use streamkeeper::{descriptors, telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "streamkeeper",
    version,
    about = "A sidecar reverse proxy that makes SSE traffic of LLM services resilient",
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy (the default).
    Run(RunArgs),
    /// Print every problem of a configuration, each with its TOML path; exit 0 if there is none, else 1.
    Check {
        /// The configuration.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// A built-in upstream that speaks like an LLM and fails on request, the proxy before it, and a page to try it.
    Demo {
        /// Address of the data port.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Address of the admin port.
        #[arg(long, default_value = "127.0.0.1:8081")]
        admin: SocketAddr,
    },
}

#[derive(Args)]
struct RunArgs {
    /// The configuration; without it and with --upstream no file is read. [default: config.toml]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Address of the data port. [default: 127.0.0.1:8080]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// URL of the upstream; alone it needs no file.
    #[arg(long)]
    upstream: Option<String>,
    /// Address of the admin port. [default: 127.0.0.1:8081]
    #[arg(long)]
    admin: Option<SocketAddr>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => match settings(arguments) {
            Ok(settings) => start(settings),
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
        Command::Demo { listen, admin } => demo(listen, admin),
    }
}

fn settings(arguments: RunArgs) -> Result<Settings, Refusal> {
    let RunArgs { config, listen, upstream, admin } = arguments;
    let without_file = config.is_none() && upstream.is_some();
    let flags = Flags { listen, admin, upstream };
    let loaded = if without_file {
        config::without_file(&flags)
    } else {
        config::load(&config.unwrap_or_else(|| "config.toml".into()), &flags)
    };
    checked(loaded?)
}

/// What the configuration alone cannot judge.
fn checked(settings: Settings) -> Result<Settings, Refusal> {
    telemetry::logs::check(&settings.telemetry).map_err(|problem| Refusal { problem, exit: 1 })?;
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

fn start(settings: Settings) -> ExitCode {
    telemetry::logs::install(&settings.telemetry);
    in_runtime(async move {
        // Before anybody is told that this process is there.
        let shutdown = shutdown()?;
        descriptors::warn_if_scarce(descriptors::raise(), settings.limits.connections);
        let metrics = telemetry::metrics::install()?;
        let bound = bind(settings, Entropy::System).await?;
        if let (Ok(data), Ok(admin)) = (bound.data_address(), bound.admin_address()) {
            tracing::info!(%data, %admin, version = env!("CARGO_PKG_VERSION"), "listening");
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
        telemetry::logs::install(&settings.telemetry);
        let metrics = telemetry::metrics::install()?;
        let bound = bind(settings, Entropy::System).await?;
        say(&streamkeeper::demo::greeting(bound.data_address()?, bound.admin_address()?));
        let service = tokio::spawn(streamkeeper::demo::upstream::serve(upstream, std::future::pending()));
        bound.serve(metrics, shutdown).await;
        service.abort();
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
    let runtime = match tokio::runtime::Runtime::new() {
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

#[allow(clippy::print_stdout, reason = "the command line speaks to a person")]
fn say(text: &str) {
    println!("{text}");
}
