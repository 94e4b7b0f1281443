//! The process that kills.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use nova_core::seed::{Chance, Seed};

use super::audit::{Fates, audit};
use super::{Acknowledged, Count, JOB, Job, KillError, Options, Part, Word};
use crate::Stopwatch;

/// A child that is not killed has to be done by then.
const PATIENCE: Duration = Duration::from_secs(600);

/// One kill of so many comes while the child is still opening the cloud.
const EARLY: f64 = 0.25;
/// The latest moment of such a kill after the child was started, in microseconds.
const EARLY_US: u64 = 60_000;
/// The latest moment of any other after the cloud was open, in microseconds.
const LATE_US: u64 = 500_000;

/// What came of killing.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Where chance started.
    pub seed: u64,
    /// Processes that were killed.
    pub kills: u32,
    /// Those of them that were killed before their cloud was open.
    pub while_opening: u32,
    /// Requests that were acknowledged.
    pub acknowledged: usize,
    /// What had become of them when everything had come to its end.
    pub fates: Fates,
    /// Operations that the kills found open, in all.
    pub interrupted: usize,
    /// What must not be.
    pub findings: Vec<String>,
    /// Seconds that it took.
    pub wall_s: f64,
}

/// Kills, examines and restarts; `progress` is told how many kills there were.
///
/// # Errors
/// [`KillError`] when nothing can be said.
pub async fn run(options: &Options, mut progress: impl FnMut(u32)) -> Result<Outcome, KillError> {
    let stopwatch = Stopwatch::start();
    let mut chance = Seed::new(options.seed).child("kills").chance();
    let mut all = Heard::default();
    let mut before = None;
    all.take(life(options, 0, Part::Ground, None)?, &mut before);
    let mut interrupted = 0;
    let mut while_opening = 0;
    for kill in 1..=options.kills {
        let moment = Moment::draw(&mut chance);
        let heard = life(options, kill, Part::Load, Some(&moment))?;
        while_opening += u32::from(!heard.ready);
        all.take(heard, &mut None);
        let left = audit(&options.data_dir, &all.acknowledged, &mut all.findings).await?;
        interrupted += left.open;
        progress(kill);
    }
    let mut after = None;
    all.take(life(options, options.kills + 1, Part::Finish, None)?, &mut after);
    let fates = audit(&options.data_dir, &all.acknowledged, &mut all.findings).await?;
    if fates.open > 0 {
        all.findings.push(format!("{} requests have not come to an end", fates.open));
    }
    if before != after || before.is_none() {
        all.findings.push(format!("there was {before:?}; there is {after:?}"));
    }
    if all.acknowledged.is_empty() {
        all.findings.push("nothing was acknowledged, so nothing was shown".to_owned());
    }
    Ok(Outcome {
        seed: options.seed,
        kills: options.kills,
        while_opening,
        acknowledged: all.acknowledged.len(),
        fates,
        interrupted,
        findings: all.findings,
        wall_s: stopwatch.elapsed().as_secs_f64(),
    })
}

/// When a child is killed.
struct Moment {
    early: bool,
    after: Duration,
}

impl Moment {
    fn draw(chance: &mut Chance) -> Self {
        let early = chance.happens(EARLY);
        let most = if early { EARLY_US } else { LATE_US };
        Self { early, after: Duration::from_micros(chance.below(most)) }
    }
}

/// What children have said.
#[derive(Debug, Default)]
struct Heard {
    ready: bool,
    acknowledged: Vec<Acknowledged>,
    findings: Vec<String>,
    count: Option<Count>,
    last: String,
}

impl Heard {
    fn hear(&mut self, line: String) {
        // What is no word is somebody else's, or was cut off by the kill.
        match serde_json::from_str::<Word>(&line) {
            Ok(Word::Ready) => self.ready = true,
            Ok(Word::Acknowledged(one)) => self.acknowledged.push(one),
            Ok(Word::Found(what)) => self.findings.push(what),
            Ok(Word::Broken(what)) => self.findings.push(format!("a child broke: {what}")),
            Ok(Word::Counted(count)) => self.count = Some(count),
            Err(_) => {}
        }
        self.last = line;
    }

    fn take(&mut self, other: Self, count: &mut Option<Count>) {
        self.acknowledged.extend(other.acknowledged);
        self.findings.extend(other.findings);
        *count = other.count;
    }
}

/// A child that does not outlive its parent's interest.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs one child, to its end or to the moment at which it is killed.
fn life(
    options: &Options,
    life: u32,
    part: Part,
    moment: Option<&Moment>,
) -> Result<Heard, KillError> {
    let failed = |doing| move |source| KillError::Process { doing, source };
    let (data_dir, seed) = (options.data_dir.clone(), options.seed);
    let job = serde_json::to_string(&Job { data_dir, seed, life, part }).unwrap_or_default();
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    let mut command = Command::new(program);
    command.args(&options.arguments).env(JOB, job).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut child = Kept(command.spawn().map_err(failed("start a child"))?);
    let stopwatch = Stopwatch::start();
    let (said, lines) = channel();
    let reader = child.0.stdout.take().map(|out| {
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        })
    });
    let mut heard = Heard::default();
    let ended = listen(&lines, &mut heard, moment, &stopwatch);
    match (ended, moment) {
        (true, None) => {}
        (true, Some(_)) => return Err(KillError::Ended { life, said: heard.last }),
        (false, None) => return Err(KillError::Late { life, seconds: PATIENCE.as_secs() }),
        (false, Some(_)) => child.0.kill().map_err(failed("kill a child"))?,
    }
    child.0.wait().map_err(failed("wait for a child"))?;
    // What it had said before it died is still on its way.
    lines.iter().for_each(|line| heard.hear(line));
    drop(reader.map(std::thread::JoinHandle::join));
    Ok(heard)
}

/// Listens until the moment to kill has come, or until the child has ended: then true.
fn listen(
    lines: &Receiver<String>,
    heard: &mut Heard,
    moment: Option<&Moment>,
    stopwatch: &Stopwatch,
) -> bool {
    let mut deadline = match moment {
        Some(moment) if moment.early => moment.after,
        _ => PATIENCE,
    };
    loop {
        let Some(left) = deadline.checked_sub(stopwatch.elapsed()) else { return false };
        match lines.recv_timeout(left) {
            Ok(line) => {
                let opened = !heard.ready;
                heard.hear(line);
                if let (true, true, Some(moment)) = (opened, heard.ready, moment)
                    && !moment.early
                {
                    deadline = stopwatch.elapsed() + moment.after;
                }
            }
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}
