//! The one thread that writes: it commits whatever waits together.

use std::sync::Arc;

use redb::{Durability, ReadableTable as _, Table, WriteTransaction};

use crate::store::redb::file::shared_failure;
use crate::store::redb::{ENTRIES, Job, META, META_REVISION, Shared};
use crate::store::sync::mpsc::Receiver;
use crate::store::{Change, Guard, Key, Revision, StoreError, Txn, Value, Write};

/// More transactions than this are never committed together: the first of them should not wait
/// for a whole queue.
const GROUP_MAX: usize = 512;

type Entries<'txn> = Table<'txn, &'static str, (u64, &'static [u8])>;

/// Takes transactions until the store is dropped and none waits any more.
pub(super) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        step(shared, first, jobs);
    }
}

/// Commits `first` together with those that wait behind it. While they wait for the disk, the
/// next ones gather in the queue; nobody is made to wait for company.
pub(super) fn step(shared: &Shared, first: Job, jobs: &Receiver<Job>) {
    let mut group = vec![first];
    while group.len() < GROUP_MAX
        && let Ok(next) = jobs.try_recv()
    {
        group.push(next);
    }
    commit(shared, group);
}

/// What a group of transactions comes to, before anything of it is on disk.
struct Outcome {
    /// The answer to each transaction, should the commit succeed.
    answers: Vec<Result<Applied, StoreError>>,
    /// All changes, in the order of revisions.
    changes: Vec<Change>,
}

/// What became of a transaction whose guards held.
#[derive(Clone, Copy)]
enum Applied {
    /// It has this new revision.
    Changed(Revision),
    /// It changed nothing; this revision was there already, or is one of the group's.
    Nothing(Revision),
}

fn commit(shared: &Shared, group: Vec<Job>) {
    let (write, outcome) = match prepare(shared, &group) {
        Ok(prepared) => prepared,
        Err(error) => {
            // Nothing of the group was committed.
            let error = Arc::new(error);
            for job in group {
                answer(job, Err(shared_failure(&shared.at, "write", &error)));
            }
            return;
        }
    };
    let Outcome { answers, changes } = outcome;
    if changes.is_empty() {
        // Dropping rolls back; there is nothing to wait for.
        drop(write);
    } else if let Err(error) = write.commit() {
        // Whether it reached the disk is found out by opening the file again. Those who would
        // have changed nothing certainly changed nothing; but what they were told to compare
        // themselves with may not be so, hence they get no verdict either.
        let error = Arc::new(redb::Error::from(error));
        for (job, verdict) in group.into_iter().zip(answers) {
            let source = Box::new(Arc::clone(&error));
            let error = match verdict {
                Ok(Applied::Changed(_)) => {
                    StoreError::Unknown { operation: "the transaction", source }
                }
                Ok(Applied::Nothing(_)) | Err(_) => {
                    StoreError::Unavailable { operation: "write", source }
                }
            };
            answer(job, Err(error));
        }
        return;
    }
    // Before the answers: who has one finds its changes on the way to every open watch.
    shared.feed.publish(changes);
    for (job, verdict) in group.into_iter().zip(answers) {
        let revision =
            verdict.map(|(Applied::Changed(revision) | Applied::Nothing(revision))| revision);
        answer(job, revision);
    }
}

/// Does the whole group, one transaction after the other, in one transaction of the file.
fn prepare(shared: &Shared, group: &[Job]) -> Result<(WriteTransaction, Outcome), redb::Error> {
    let mut write = shared.database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    // Two waits for the disk instead of one. With one, a file that is damaged after a crash opens
    // at the commit before the damaged one, without a word; with two, the damage is reported.
    write.set_two_phase_commit(true);
    let mut outcome = Outcome { answers: Vec::with_capacity(group.len()), changes: Vec::new() };
    {
        let mut entries = write.open_table(ENTRIES)?;
        let mut meta = write.open_table(META)?;
        let stored = meta.get(META_REVISION)?.map(|stored| stored.value());
        let mut present = Revision(
            stored.ok_or_else(|| redb::Error::Corrupted("the revision is missing".to_owned()))?,
        );
        for job in group {
            let verdict = match failed_guard(&entries, &job.txn)? {
                Some(key) => Err(StoreError::Conflict { key: key.clone() }),
                None => {
                    let next = Revision(present.0.saturating_add(1));
                    let before = outcome.changes.len();
                    apply(&mut entries, &job.txn, next, &mut outcome.changes)?;
                    if outcome.changes.len() > before {
                        present = next;
                        Ok(Applied::Changed(next))
                    } else {
                        Ok(Applied::Nothing(present))
                    }
                }
            };
            outcome.answers.push(verdict);
        }
        if !outcome.changes.is_empty() {
            meta.insert(META_REVISION, present.0)?;
        }
    }
    Ok((write, outcome))
}

/// The key of the first guard that does not hold.
fn failed_guard<'a>(entries: &Entries<'_>, txn: &'a Txn) -> Result<Option<&'a Key>, redb::Error> {
    for guard in txn.guards() {
        let stored = entries.get(guard.key().as_str())?;
        let known = stored.map(|stored| Revision(stored.value().0));
        let holds = match guard {
            Guard::Absent(_) => known.is_none(),
            Guard::Unchanged(_, revision) => known == Some(*revision),
        };
        if !holds {
            return Ok(Some(guard.key()));
        }
    }
    Ok(None)
}

fn apply(
    entries: &mut Entries<'_>,
    txn: &Txn,
    revision: Revision,
    changes: &mut Vec<Change>,
) -> Result<(), redb::Error> {
    for write in txn.writes() {
        let value: Option<Value> = match write {
            Write::Put(key, value) => {
                entries.insert(key.as_str(), (revision.0, &**value))?;
                Some(value.clone())
            }
            Write::Remove(key) => {
                if entries.remove(key.as_str())?.is_none() {
                    continue;
                }
                None
            }
        };
        changes.push(Change { key: write.key().clone(), value, revision });
    }
    Ok(())
}

fn answer(job: Job, answer: Result<Revision, StoreError>) {
    // A caller that has gone away does not want to know.
    drop(job.answer.send(answer));
}
