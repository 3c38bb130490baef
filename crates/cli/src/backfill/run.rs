//! `backfill run`: the worker that people need. Runs their command for each missing chunk of a job.

use std::{process::ExitCode, time::Duration};

use tokio::sync::watch;
use utxoiq_store::{
    backfill::{
        BlockRange, CheckpointOutcome, Job, Status,
        worker::{self, Event, Options, Outcome, Stop},
    },
    error::Kind,
};
use utxoiq_store_server::api::backfill::wire;

use super::{
    Work,
    command::Template,
    watch::{Progress, print_json},
};
use crate::{
    client::{Api, Connection},
    output,
};

/// The exit code of a run that was told to stop, as shells have it for an interrupted program.
const STOPPED: u8 = 130;

/// Arguments.
///
/// Exits with 0 when the job is completed, with 1 when chunks failed too often or the job was ended otherwise, and with
/// 130 when it was told to stop. Started again, it does exactly what is missing.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    work: Work,
    /// Blocks in one run of the command
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000_000))]
    chunk: i64,
    /// Commands at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    parallel: u16,
    /// How often a chunk is tried in all
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    tries: i32,
    /// Seconds before the second try of a chunk; doubled each time
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    retry_after: f64,
    /// Seconds that the service may be away before the worker gives up
    #[arg(long, default_value_t = 900.0, value_name = "SECONDS")]
    patience: f64,
    /// The worker's name, as others see it [default: host and process]
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Start a new job where the last of this type and range is completed or cancelled
    #[arg(long)]
    again: bool,
    /// A command that prints the hash of {block}: chunks are recorded with it, and a reorganised chain is found
    #[arg(long, value_name = "COMMAND")]
    checkpoint_command: Option<String>,
    /// Print JSON: the job as it stands at the end
    #[arg(long)]
    json: bool,
    /// The command, with {start} and {end}, both included; a chunk is done when it exits with 0
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Args {
    fn options(&self) -> anyhow::Result<Options> {
        let seconds = |name: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| anyhow::anyhow!("--{name} must be a number of seconds"))
        };
        let worker = self.worker.clone().unwrap_or_else(default_worker);
        if worker.trim().is_empty() || worker.chars().count() > 200 {
            anyhow::bail!("--worker must have 1 to 200 characters");
        }
        Ok(Options {
            worker,
            chunk: self.chunk,
            parallel: usize::from(self.parallel),
            tries: self.tries,
            backoff: seconds("retry-after", self.retry_after)?,
            patience: seconds("patience", self.patience)?,
        })
    }
}

fn default_worker() -> String {
    let host = rustix::system::uname();
    format!(
        "{}/{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// Works on the job.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    let command = Template::new(args.command.clone());
    if !command.mentions("{start}") && !command.mentions("{end}") {
        anyhow::bail!(
            "the command names neither {{start}} nor {{end}}: it would do the same for every chunk"
        );
    }
    let hash_of = args
        .checkpoint_command
        .as_deref()
        .map(hash_template)
        .transpose()?;
    let api = Api::connect(&args.connection)?;
    let stop = stop_on_signals();
    let progress = Progress::new();
    let job = open(&api, &args, options.patience, &progress, &stop).await?;
    let Some(job) = job else {
        return Ok(ExitCode::from(STOPPED));
    };
    if job.status.is_final() {
        if args.json {
            print_json(&api, job.id).await?;
        }
        let hint = "--again starts a new job";
        progress.say(&format!(
            "the {} job {} of these blocks is {} already; {hint}",
            job.job_type, job.id, job.status
        ));
        return Ok(if job.status == Status::Completed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    progress.say(&format!("job {}, worker {}", job.id, options.worker));
    let work = {
        let hash_of = hash_of.clone();
        move |blocks: BlockRange, _attempted: i32| {
            let (command, hash_of) = (command.clone(), hash_of.clone());
            async move {
                command.run(blocks).await?;
                match hash_of {
                    Some(hash_of) => Ok(Some(hash_of.answer(blocks.last()).await?)),
                    None => Ok(None),
                }
            }
        }
    };
    let outcome = loop {
        if let Some(hash_of) = &hash_of {
            verify_chain(&api, &job, hash_of, &options, &progress).await?;
        }
        let show = |event| show(&progress, &event);
        match worker::run(&api, job.id, &options, work.clone(), show, stop.clone()).await? {
            // Found while it ran: whether the checkpoints below hold is to be seen before it goes on.
            outcome @ Outcome::Reorganised { .. } => progress.say(&outcome.to_string()),
            outcome => break outcome,
        }
    };
    progress.say(&format!("job {}: {outcome}", job.id));
    if args.json {
        print_json(&api, job.id).await?;
    }
    Ok(match outcome {
        Outcome::Completed => ExitCode::SUCCESS,
        Outcome::Stopped => ExitCode::from(STOPPED),
        Outcome::GaveUp { .. } | Outcome::Ended { .. } | Outcome::Reorganised { .. } => {
            ExitCode::FAILURE
        }
    })
}

fn hash_template(command: &str) -> anyhow::Result<Template> {
    let template = Template::new(command.split_whitespace().map(str::to_owned).collect());
    if !template.mentions("{block}") {
        anyhow::bail!("--checkpoint-command must name {{block}}, the block whose hash it prints");
    }
    Ok(template)
}

/// Opens the job, waiting for a service that is away. `None` when told to stop meanwhile.
async fn open(
    api: &Api,
    args: &Args,
    patience: Duration,
    progress: &Progress,
    stop: &watch::Receiver<Stop>,
) -> anyhow::Result<Option<Job>> {
    let body = wire::Open {
        start: args.work.body(),
        again: Some(args.again),
    };
    let started = tokio::time::Instant::now();
    let mut stop = stop.clone();
    loop {
        match api
            .post::<wire::Opened>("monitoring/backfill/open", &body)
            .await
        {
            Ok(opened) => return Ok(Some(opened.job.try_into()?)),
            Err(error) if error.kind() == Kind::Unavailable && started.elapsed() < patience => {
                progress.say(error.message());
            }
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            Ok(_) = stop.wait_for(|stop| *stop != Stop::No) => return Ok(None),
        }
    }
}

/// Compares the job's checkpoints with the chain, from the highest down to one that holds.
async fn verify_chain(
    api: &Api,
    job: &Job,
    hash_of: &Template,
    options: &Options,
    progress: &Progress,
) -> anyhow::Result<()> {
    let path = format!("monitoring/backfill/{}/details", job.id);
    let details: wire::DetailsAnswer =
        worker::patiently(options.patience, || api.get(&path, &[])).await?;
    let mut next = details
        .checkpoints
        .into_iter()
        .next()
        .map(|checkpoint| checkpoint.block);
    while let Some(block) = next {
        let hash = hash_of
            .answer(block)
            .await
            .map_err(|error| anyhow::anyhow!("the hash of block {block}: {error}"))?;
        let body = wire::VerifyRequest {
            block,
            block_hash: hash,
        };
        let path = format!("monitoring/backfill/{}/verify", job.id);
        let answer: wire::CheckpointAnswer =
            worker::patiently(options.patience, || api.post(&path, &body)).await?;
        next = match answer.into() {
            CheckpointOutcome::Kept => None,
            CheckpointOutcome::Rewound { from, verify } => {
                progress.say(&Outcome::Reorganised { from }.to_string());
                verify.map(|checkpoint| checkpoint.block)
            }
        };
    }
    Ok(())
}

/// The first Ctrl-C or SIGTERM finishes what is under way, the second ends it.
fn stop_on_signals() -> watch::Receiver<Stop> {
    let (stop, stopped) = watch::channel(Stop::No);
    tokio::spawn(async move {
        let Ok(mut terminate) =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        else {
            return;
        };
        for next in [Stop::Finish, Stop::Now] {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            stop.send_replace(next);
            if next == Stop::Finish {
                output::note("finishing what is under way; once more to end it now");
            }
        }
        // Kept, so that the receivers do not see it closed.
        std::future::pending::<()>().await;
    });
    stopped
}

fn show(progress: &Progress, event: &Event) {
    match event {
        Event::Job(job) => progress.show(job),
        Event::Recorded(blocks) => progress.add(blocks.count()),
        Event::Claimed(_) => {}
        Event::Failed {
            blocks,
            attempted,
            message,
            retry_in,
        } => {
            let next = match retry_in {
                Some(pause) => format!("again in {:.1} s", pause.as_secs_f64()),
                None => "given up".to_owned(),
            };
            progress.say(&format!(
                "blocks {blocks}, try {attempted}: {message}; {next}"
            ));
        }
        Event::Lost { blocks, message } => {
            progress.say(&format!("claim {blocks} is lost: {message}"));
        }
        Event::Waiting { retry_in } => {
            progress.say(&format!(
                "others hold what is missing; waiting up to {:.0} s",
                retry_in.as_secs_f64()
            ));
        }
        Event::Paused => progress.say("the job is paused; waiting"),
        Event::Away { message } => progress.say(message),
    }
}
