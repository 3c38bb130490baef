//! A person's command, run for a chunk of blocks.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    task::JoinHandle,
};
use utxoiq_store::backfill::BlockRange;

/// How much of what a command says on standard error is kept for the job's history, from the end.
const KEPT_BYTES: usize = 2_000;

/// A command with `{start}`, `{end}` and `{block}` to be filled in.
#[derive(Debug, Clone)]
pub struct Template(Arc<Vec<String>>);

impl Template {
    /// A program and its arguments.
    pub fn new(words: Vec<String>) -> Self {
        Self(Arc::new(words))
    }

    /// Whether a placeholder stands in it.
    pub fn mentions(&self, placeholder: &str) -> bool {
        self.0.iter().any(|word| word.contains(placeholder))
    }

    /// Runs it for a chunk; an exit code other than 0 is an error with what it said last. It never goes through a
    /// shell, and dropping this ends it.
    pub async fn run(&self, blocks: BlockRange) -> Result<(), String> {
        let (status, _, said) = self.execute(blocks, Output::Shown).await?;
        if status.success() {
            Ok(())
        } else {
            Err(describe(status, &said))
        }
    }

    /// Runs it for one block and gives the first word it prints.
    pub async fn answer(&self, block: i64) -> Result<String, String> {
        let blocks = BlockRange {
            start: block,
            end: block + 1,
        };
        let (status, printed, said) = self.execute(blocks, Output::Taken).await?;
        if !status.success() {
            return Err(describe(status, &said));
        }
        let word = printed
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        match word.len() {
            1..=128 => Ok(word),
            0 => Err("the checkpoint command printed nothing".to_owned()),
            _ => Err("the checkpoint command printed more than 128 characters".to_owned()),
        }
    }

    async fn execute(
        &self,
        blocks: BlockRange,
        output: Output,
    ) -> Result<(ExitStatus, String, String), String> {
        let words: Vec<String> = self.0.iter().map(|word| fill(word, blocks)).collect();
        let (program, args) = words.split_first().ok_or("no command was given")?;
        let mut child = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(if output == Output::Taken {
                Stdio::piped()
            } else {
                Stdio::inherit()
            })
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for us: the command is to finish its chunk.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program} could not be started: {error}"))?;
        let _group = Group(child.id());
        let mut printed = Tail::of(child.stdout.take(), Output::Taken);
        let mut said = Tail::of(child.stderr.take(), Output::Shown);
        let status = child
            .wait()
            .await
            .map_err(|error| format!("{program} could not be waited for: {error}"))?;
        let (printed, said) = tokio::join!(printed.finish(), said.finish());
        Ok((status, printed, said))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Goes to our standard error as well.
    Shown,
    /// Is kept only.
    Taken,
}

/// Ends what is left of a command when it is dropped: it may have started others.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            // It has most often ended by itself: then there is nothing to end.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
}

fn fill(word: &str, blocks: BlockRange) -> String {
    word.replace("{start}", &blocks.start.to_string())
        .replace("{end}", &blocks.last().to_string())
        .replace("{block}", &blocks.last().to_string())
}

/// How long what a command said is waited for after its end: a child of its that goes on may hold the stream open.
const DRAIN: Duration = Duration::from_millis(500);

/// The last bytes of a stream, read while the command runs.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Tail {
    fn of(stream: Option<impl AsyncRead + Unpin + Send + 'static>, output: Output) -> Self {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn(read(stream, output, Arc::clone(&kept)));
        Self { kept, reading }
    }

    async fn finish(&mut self) -> String {
        let _ = tokio::time::timeout(DRAIN, &mut self.reading).await;
        let kept = lock(&self.kept);
        let from = kept.len().saturating_sub(KEPT_BYTES);
        String::from_utf8_lossy(&kept[from..]).trim().to_owned()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn lock(kept: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(stream: Option<impl AsyncRead + Unpin>, output: Output, kept: Arc<Mutex<Vec<u8>>>) {
    let Some(mut stream) = stream else {
        return;
    };
    let mut buffer = [0; 4_096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let read = &buffer[..count];
        if output == Output::Shown {
            pass_on(read);
        }
        let mut kept = lock(&kept);
        kept.extend_from_slice(read);
        if kept.len() > 2 * KEPT_BYTES {
            let surplus = kept.len() - KEPT_BYTES;
            kept.drain(..surplus);
        }
    }
}

/// Shows what a command says on our standard error, through a thread of its own: a terminal that was stopped, or a pager
/// that is not read, must hold up no heartbeat. What it does not take in time is left out.
fn pass_on(bytes: &[u8]) {
    static SHOWN: LazyLock<SyncSender<Vec<u8>>> = LazyLock::new(|| {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(256);
        std::thread::spawn(move || {
            for bytes in receiver {
                let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), &bytes);
            }
        });
        sender
    });
    let _ = SHOWN.try_send(bytes.to_vec());
}

fn describe(status: ExitStatus, said: &str) -> String {
    if said.is_empty() {
        status.to_string()
    } else {
        format!("{status}: {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(words: &[&str]) -> Template {
        Template::new(words.iter().map(|word| (*word).to_owned()).collect())
    }

    const BLOCKS: BlockRange = BlockRange {
        start: 100,
        end: 200,
    };

    #[tokio::test]
    async fn bounds_are_filled_in_and_included_and_no_shell_reads_them() {
        assert!(
            template(&["test", "{start}-{end}", "=", "100-199"])
                .run(BLOCKS)
                .await
                .is_ok()
        );
        assert!(
            template(&["test", "$(false) {end}", "=", "$(false) 199"])
                .run(BLOCKS)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_failure_tells_the_status_and_the_end_of_what_was_said() {
        let error = template(&[
            "sh",
            "-c",
            "yes x | head -c 9000 >&2; echo 'rpc timeout' >&2; exit 7",
        ])
        .run(BLOCKS)
        .await
        .unwrap_err();
        assert!(
            error.starts_with("exit status: 7: ") && error.ends_with("rpc timeout"),
            "{error}"
        );
        assert!(error.len() < 2_100);
        let error = template(&["./no-such-program"])
            .run(BLOCKS)
            .await
            .unwrap_err();
        assert!(
            error.contains("./no-such-program could not be started"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_child_that_holds_the_stream_open_does_not_hold_the_chunk() {
        let started = std::time::Instant::now();
        assert!(
            template(&["sh", "-c", "sleep 30 & exit 0"])
                .run(BLOCKS)
                .await
                .is_ok()
        );
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "the chunk waited for the child"
        );
    }

    #[tokio::test]
    async fn an_answer_is_the_first_word_printed() {
        assert_eq!(
            template(&["echo", "hash-{block}", "more"])
                .answer(7)
                .await
                .unwrap(),
            "hash-7"
        );
        assert!(template(&["true"]).answer(7).await.is_err());
    }
}
