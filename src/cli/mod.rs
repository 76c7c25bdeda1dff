//! What can be written on the command line. What is done with it is in `main`.

pub(crate) mod health;
pub(crate) mod manual;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use streamkeeper::version;

#[derive(Parser)]
#[command(
    name = "streamkeeper",
    version = version::BUILD,
    about = "A sidecar reverse proxy that makes SSE traffic of LLM services resilient",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the proxy (the default).
    Run(RunArgs),
    /// Print every problem of a configuration, each with its TOML path; exit 0 if there is none, else 1.
    Check {
        /// The configuration.
        #[arg(long, default_value = "config.toml")]
        config: PathBuf,
    },
    /// Ask a running proxy whether it is ready; exit 0 if it is, else 1 with the reason.
    Health {
        /// Address of its admin port.
        #[arg(long, default_value = "127.0.0.1:8081")]
        admin: SocketAddr,
    },
    /// A built-in upstream that speaks like an LLM and fails on request, the proxy before it, and a page to try it.
    Demo {
        /// Address of the data port.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// Address of the admin port.
        #[arg(long, default_value = "127.0.0.1:8081")]
        admin: SocketAddr,
        /// The upstream alone, at the address of --listen, for proxies that run elsewhere.
        #[arg(long, conflicts_with = "admin")]
        upstream_only: bool,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page (roff).
    Man,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The configuration; without it and with --upstream no file is read. [default: config.toml]
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    /// Address of the data port. [default: 127.0.0.1:8080]
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// URL of the upstream; alone it needs no file.
    #[arg(long)]
    pub(crate) upstream: Option<String>,
    /// Address of the admin port. [default: 127.0.0.1:8081]
    #[arg(long)]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}
