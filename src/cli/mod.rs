//! The command line: one file a verb. A verb's doc comments are its help text.

use std::io::Write as _;

use clap::{Parser, Subcommand};

use crate::config::{ClusterArgs, LogFormat, RepositoryArgs};

mod apply;
mod approve;
mod build;
mod builder;
mod drift;
mod history;
mod init;
mod open;
mod plan;
mod promote;
mod render;
mod rollback;
mod run;
mod status;
mod validate;
mod watch;
mod write;

/// Keep a Kubernetes cluster equal to git: a commit deploys, a revert rolls back, drift is named.
///
/// A branch is an environment. plumb watches a repository, renders each environment's manifests from the head of its branch, applies what changed, deletes
/// what left git, and says why whenever it does not.
#[derive(Debug, Parser)]
#[command(name = "plumb", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How log lines look [default: text on a terminal and on a laptop, json in a pod]
    #[arg(long, env = "PLUMB_LOG_FORMAT", value_enum, global = true, help_heading = "Logging")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, or directives such as plumb=debug [default: info for run, apply, build and builder, else warn]
    #[arg(long, env = "PLUMB_LOG", value_name = "LEVEL", global = true, help_heading = "Logging")]
    log: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    Plan(plan::Args),
    Apply(apply::Args),
    Render(render::Args),
    Build(build::Args),
    Builder(builder::Args),
    Status(status::Args),
    Drift(drift::Args),
    History(history::Args),
    Rollback(rollback::Args),
    Promote(promote::Args),
    Validate(validate::Args),
    Approve(approve::Args),
    Init(init::Args),
    /// Print a shell's completion script
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Verb {
    /// Whether people follow what it does.
    fn acts(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Apply(_) | Self::Build(_) | Self::Builder(_))
    }
}

/// How plumb ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Done,
    /// 1
    Failed,
    /// 3: `plan --exit-code` or `drift --exit-code` found differences.
    Differences,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Differences => Self::from(3),
        }
    }
}

impl Cli {
    /// Runs the verb.
    pub fn run(self) -> anyhow::Result<Exit> {
        self.start_logging()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(8)
            .enable_all()
            .build()?;
        let Self { repository, cluster, verb, .. } = self;
        let exit = runtime.block_on(async {
            match verb {
                Verb::Run(args) => run::run(repository, cluster, args).await,
                Verb::Plan(args) => plan::run(repository, cluster, args).await,
                Verb::Apply(args) => apply::run(repository, cluster, args).await,
                Verb::Render(args) => render::run(repository, cluster, args).await,
                Verb::Build(args) => build::run(repository, cluster, args).await,
                Verb::Drift(args) => drift::run(repository, cluster, args).await,
                Verb::Builder(args) => builder::run(cluster, args).await,
                Verb::Status(args) => status::run(cluster, args).await,
                Verb::History(args) => history::run(repository, cluster, args).await,
                Verb::Rollback(args) => write::unless_interrupted(rollback::run(repository, cluster, args)).await,
                Verb::Promote(args) => write::unless_interrupted(promote::run(repository, cluster, args)).await,
                Verb::Validate(args) => validate::run(repository, args).await,
                Verb::Approve(args) => approve::run(repository, cluster, args).await,
                Verb::Init(args) => init::run(&args),
                Verb::Completion { shell } => completion(shell),
            }
        });
        // A render or a read that hangs must not keep the process.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        exit
    }

    fn start_logging(&self) -> anyhow::Result<()> {
        let usual = if self.verb.acts() { "info" } else { "warn" };
        let level = self.log.as_deref().unwrap_or(usual);
        let filter = tracing_subscriber::EnvFilter::try_new(level)
            .map_err(|error| anyhow::anyhow!("--log {level:?}: {error}"))?;
        // kube logs each refused request as an ERROR without saying which; plumb says it in full.
        let filter = if level.contains("kube") { filter } else { filter.add_directive("kube_client=off".parse()?) };
        // A directory that vanished is told by the source.
        let filter = if level.contains("notify") { filter } else { filter.add_directive("notify=off".parse()?) };
        let in_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let format = self.log_format.unwrap_or(if in_pod { LogFormat::Json } else { LogFormat::Text });
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
        match format {
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
            LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        }
        Ok(())
    }
}

fn completion(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "plumb", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// An error with its causes, each said once: some errors name their cause themselves.
pub fn words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Prints. A reader that went away (`plumb render dev | head`) is no error.
fn print(text: &str) -> anyhow::Result<Exit> {
    print_to_reader(text).map(|_| Exit::Done)
}

/// The one way to standard output; false if nobody reads any more.
fn print_to_reader(text: &str) -> anyhow::Result<bool> {
    let mut out = anstream::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match written.and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}
