//! Logs of decisions: what is read is what was asked, and replays to the same answers.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nova_core::clock::{Clock as _, Timestamp};
use nova_core::domain::*;
use nova_core::memory::VirtualClock;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::explain::{DecisionLog, LogError, LogReader, Replay, replay};
use proptest::prelude::*;

use crate::kit::{any_hosts, any_request, host, request};

fn policy() -> FilterScheduler {
    FilterScheduler::nova().with_subset_size(2).unwrap()
}

fn log<W: Write + Send + 'static>(writer: W, each: u32) -> DecisionLog<FilterScheduler, W> {
    let each = NonZeroU32::new(each).unwrap();
    DecisionLog::new(policy(), Arc::new(VirtualClock::new()), writer).with_questions_each(each)
}

/// A log of so many questions about two hosts, of which one changes between them, in parts of three.
fn a_log(questions: u64) -> Vec<u8> {
    let mut hosts = HostTable::new([host(1, 8, 8192), host(2, 8, 8192)]);
    let log = log(Vec::new(), 3);
    for nth in 0..questions {
        log.find(&hosts, &request(1, 1, 512), Seed::new(nth));
        hosts.update(HostId::from_u128(1), |row| row.failed_builds += 1);
    }
    log.finish().unwrap()
}

/// How many questions there are, and what is wrong.
fn read(log: &[u8]) -> (u64, Vec<String>) {
    let (mut questions, mut faults) = (0, Vec::new());
    let mut reader = LogReader::new(log);
    while let Some(asked) = reader.next_question() {
        match asked {
            Ok(_) => questions += 1,
            Err(error) => faults.push(error.to_string()),
        }
    }
    (questions, faults)
}

fn replayed(log: &[u8], policy: &FilterScheduler) -> Replay {
    replay(log, policy, |_| {}).unwrap()
}

/// What was asked, with a copy of the hosts and their hash.
struct Asked {
    hosts: HostTable,
    input_hash: String,
    request: RequestSpec,
    seed: Seed,
    at: Timestamp,
    placed: Option<Vec<HostId>>,
}

/// Something happens to a table.
fn change(hosts: &mut HostTable, what: u8, id: u128, nth: u64) {
    let host_id = HostId::from_u128(id);
    match what {
        0 => drop(hosts.remove(host_id)),
        1 => hosts.put(host(id, 4, 2048)),
        2 => {
            let metadata = AggregateMetadata::new([("ssd", nth.to_string())]).unwrap();
            hosts.update(host_id, |row| {
                let known = row.aggregates.first().map(|known| Aggregate::clone(known));
                let changed = known.map(|known| Arc::new(Aggregate { metadata, ..known }));
                row.aggregates = changed.into_iter().collect();
            });
        }
        // Another table with the same hosts.
        3 => *hosts = hosts.clone(),
        // It leaves, and comes back into another slot, or another comes into its own.
        4 => {
            let (row, other) = (hosts.remove(host_id), hosts.remove(HostId::from_u128(1)));
            other.into_iter().chain(row).for_each(|row| hosts.put(row));
        }
        // More than a table remembers.
        5 => (0..=HostTable::CHANGES_MIN).for_each(|_| _ = hosts.update(host_id, |_| {})),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_is_read_is_what_was_asked(
        mut tables in prop::collection::vec(any_hosts(), 1..3),
        steps in prop::collection::vec((any_request(), 0_usize..3, 0_u8..9, 1_u128..12), 1..40),
        each in 1_u32..12,
    ) {
        let (policy, clock) = (policy(), Arc::new(VirtualClock::new()));
        let each = NonZeroU32::new(each).unwrap();
        let log = DecisionLog::new(policy.clone(), clock.clone(), Vec::new())
            .with_questions_each(each);
        let mut asked = Vec::new();
        for (nth, (request, table, what, id)) in (0_u64..).zip(steps) {
            let at = table % tables.len();
            change(&mut tables[at], what, id, nth);
            clock.advance(Duration::from_millis(nth));
            // One host for itself, as a cloud asks whether it would still do.
            let only = HostTable::new(tables[at].rows().next().cloned());
            for hosts in [&tables[at], &only] {
                let seed = Seed::new(nth);
                let placed = log.find(hosts, &request, seed).map(|placement| placement.hosts);
                asked.push(Asked {
                    hosts: hosts.clone(),
                    input_hash: policy.decide(hosts, &request, seed, 0).input_hash,
                    request: request.clone(),
                    seed,
                    at: clock.now(),
                    placed,
                });
            }
            let placed = asked[asked.len() - 2].placed.iter().flatten();
            for host in placed {
                let instance = InstanceId::from_u128(nth.into());
                tables[at].update(*host, |row| row.claim_flavor(instance, &request.flavor));
            }
        }
        let log = log.finish().unwrap();
        let mut reader = LogReader::new(&log[..]);
        for was in &asked {
            let read = reader.next_question().unwrap().unwrap();
            prop_assert_eq!(read.hosts, &was.hosts);
            let input_hash = policy.decide(read.hosts, &read.request, read.seed, 0).input_hash;
            prop_assert_eq!(&input_hash, &was.input_hash);
            prop_assert_eq!((&read.request, read.seed, read.at), (&was.request, was.seed, was.at));
            prop_assert_eq!((&read.placed, read.policy), (&was.placed, "nova"));
        }
        prop_assert!(reader.next_question().is_none());
        prop_assert_eq!(reader.skipped_lines(), 0);
        let same = replayed(&log, &policy);
        prop_assert!(same.is_same() && same.faults == 0, "{:?}", same);
        prop_assert_eq!(same.asked, asked.len() as u64);
    }

    /// Of a log that is damaged anywhere, something is said, and what is not damaged is read.
    #[test]
    fn a_damaged_log_is_read_as_far_as_it_is_whole(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let whole = a_log(10);
        let mut damaged = whole.clone();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        let (questions, faults) = read(&damaged);
        prop_assert!(questions <= 10);
        if questions < 10 && damaged.len() == whole.len() {
            prop_assert!(!faults.is_empty());
        }
        // At most the part is lost in which it is.
        prop_assert!(questions >= 7 || !faults.is_empty(), "{} {:?}", questions, faults);
        replay(&damaged[..], &policy(), |_| {}).ok();
    }
}

#[test]
fn the_hosts_that_changed_are_told() {
    let mut hosts = HostTable::new([host(1, 8, 8192), host(2, 8, 8192)]);
    let log = log(Vec::new(), 100);
    let ask = |hosts: &HostTable| log.find(hosts, &request(1, 1, 512), Seed::new(1));
    ask(&hosts);
    ask(&hosts);
    hosts.update(HostId::from_u128(2), |row| row.io_ops = 3);
    ask(&hosts);
    hosts.remove(HostId::from_u128(1));
    ask(&hosts);
    let bytes = log.finish().unwrap();
    let (mut reader, mut told) = (LogReader::new(&bytes[..]), Vec::new());
    while let Some(asked) = reader.next_question() {
        told.push(asked.unwrap().changed.iter().map(|id| id.as_u128()).collect::<Vec<_>>());
    }
    assert_eq!(told, [vec![1, 2], vec![], vec![2], vec![1]]);
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 6 + 1 + 2 + 2);
}

#[test]
fn another_policy_has_other_answers() {
    let hosts = HostTable::new([host(1, 8, 8192), host(2, 16, 16_384), host(3, 2, 2048)]);
    let clock = Arc::new(VirtualClock::new());
    let log = DecisionLog::new(FilterScheduler::best_fit(), clock, Vec::new());
    for vcpus in [1, 2, 16, 17] {
        log.select(&hosts, &request(1, vcpus, 512), Seed::new(1)).ok();
    }
    let bytes = log.finish().unwrap();
    let best = replayed(&bytes, &FilterScheduler::best_fit());
    assert!(best.is_same() && best.decided_by.contains("best-fit"));
    let worst = replayed(&bytes, &FilterScheduler::worst_fit());
    assert_eq!((worst.asked, worst.same, worst.elsewhere), (4, 2, 2));
    assert_eq!(worst.differing.len(), 2);
    // Without any filter everything fits anywhere, but a host never has more than it has.
    let mut seen = Vec::new();
    replay(&bytes[..], &FilterScheduler::new("bare"), |one| seen.push(one.recorded.is_some()))
        .unwrap();
    assert_eq!(seen, [true, true, true, false]);
}

#[test]
fn placed_now_and_refused_now_are_told_apart() {
    let mut closed = host(1, 8, 8192);
    closed.zone = ZoneName::new("b").unwrap();
    let hosts = HostTable::new([closed]);
    let mut zoned = request(1, 1, 512);
    zoned.zone = Some(ZoneName::new("a").unwrap());
    let bare = FilterScheduler::new("bare");
    let count = |recording: FilterScheduler, asking: &FilterScheduler| {
        let log = DecisionLog::new(recording, Arc::new(VirtualClock::new()), Vec::new());
        log.find(&hosts, &zoned, Seed::new(1));
        let replay = replayed(&log.finish().unwrap(), asking);
        (replay.placed_now, replay.refused_now, replay.differing)
    };
    let nova = FilterScheduler::nova();
    assert_eq!(count(nova.clone(), &bare), (1, 0, vec![5]));
    assert_eq!(count(bare, &nova), (0, 1, vec![5]));
}

#[test]
fn a_log_that_is_cut_anywhere_is_read_up_to_there() {
    let whole = a_log(5);
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for cut in 0..whole.len() {
        let (questions, faults) = read(&whole[..cut]);
        let lines = whole[..cut].split_inclusive(|byte| *byte == b'\n');
        let is_question = |line: &&[u8]| line.windows(9).any(|part| part == b"\"asked\":{");
        let whole_ones = lines.filter(|line| is_question(line) && line.ends_with(b"}]\n"));
        // The end of a line may be missing where nothing else is.
        let more = u64::from(ends.contains(&cut) && is_question(&last_line(&whole[..cut])));
        assert_eq!(questions, whole_ones.count() as u64 + more, "{cut}");
        let torn = !ends.contains(&cut) && cut > 0 && whole[cut - 1] != b'\n';
        assert_eq!(faults.len(), usize::from(torn), "{cut}: {faults:?}");
        assert!(faults.iter().all(|fault| fault.contains("ends in the middle")), "{faults:?}");
    }
}

fn last_line(text: &[u8]) -> &[u8] {
    text.rsplit(|byte| *byte == b'\n').next().unwrap_or(text)
}

#[test]
fn what_follows_a_fault_is_read_from_the_next_part_on() {
    let text = String::from_utf8(a_log(9)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |at: usize, line: Option<&str>| {
        let mut lines = lines.clone();
        match line {
            Some(line) => lines[at] = line,
            None => drop(lines.remove(at)),
        }
        lines.join("\n")
    };
    // A blank line, the header, a table, two hosts, a question; then a host and a question twice.
    assert_eq!(lines.len(), 3 * 10);
    let check = |text: &str, questions: u64, fault: &str| {
        let (read, faults) = read(text.as_bytes());
        assert_eq!(read, questions, "{fault}: {faults:?}");
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains(fault), "{faults:?} has no {fault:?}");
    };
    check(&with(13, Some("[2,{\"host\":")), 6, "line 14: ");
    check(&with(13, None), 6, "line 14: lines are missing before it: it has the number 3, not 2");
    check(&with(12, Some("[1,{\"table\":8}]")), 6, "line 13: tables have the numbers 0 to 7");
    check(&with(12, Some("[1,{\"gone\":[1,\"")), 6, "line 13: ");
    let nowhere = lines[15].replace("\"table\":0", "\"table\":5");
    check(&with(15, Some(&nowhere)), 6, "line 16: there is no table 5 here");
    let nobody =
        lines[15].replace("\"placed\":[", "\"placed\":[\"00000000-0000-0000-0000-000000000001\",");
    check(&with(15, Some(&nobody)), 6, "line 16: 2 hosts for 1 instances");
    let other = lines[11].replace("\"decisions\":1", "\"decisions\":2");
    check(&with(11, Some(&other)), 3, "line 12: version 2; 1 is read");
    check("vm,arrival_s,end_s,vcpu,mem_mib\n1,2,3,4,5\n", 0, "does not begin with \"vm,arrival_s");
    // Cut in front: what is before the first part has no tables.
    assert_eq!(read(lines[3..].join("\n").as_bytes()), (6, vec![]));
    let skipped = replayed(lines[3..].join("\n").as_bytes(), &policy());
    assert_eq!((skipped.asked, skipped.skipped_lines), (6, 7));
}

#[test]
fn a_log_goes_on_in_a_file_that_another_process_tore() {
    let whole = a_log(2);
    let mut torn = whole[..whole.len() - 20].to_vec();
    torn.extend(a_log(2));
    let (questions, faults) = read(&torn);
    assert_eq!((questions, faults.len()), (3, 1), "{faults:?}");
}

/// Takes so many bytes, and no more.
#[derive(Clone)]
struct Full(Arc<Mutex<Vec<u8>>>, usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap();
        let left = self.1 - held.len().min(self.1);
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(left);
        held.extend(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_stops_the_log_and_nothing_else() {
    let hosts = HostTable::new([host(1, 8, 8192), host(2, 8, 8192)]);
    let held = Arc::new(Mutex::new(Vec::new()));
    let log = log(Full(Arc::clone(&held), 2500), 100);
    for nth in 0..20 {
        let asked = request(1, 1, 512);
        let answer = policy().select(&hosts, &asked, Seed::new(nth));
        assert_eq!(log.select(&hosts, &asked, Seed::new(nth)), answer);
    }
    let failure = log.failure().unwrap();
    assert_eq!(failure.error.kind(), io::ErrorKind::StorageFull);
    let (questions, faults) = read(&held.lock().unwrap());
    assert_eq!((questions + failure.unlogged, faults.len()), (20, 1), "{faults:?}");
    assert!(questions > 0);

    let more = Arc::new(Mutex::new(Vec::new()));
    log.continue_in(Full(Arc::clone(&more), usize::MAX)).unwrap();
    assert!(log.failure().is_none());
    log.find(&hosts, &request(1, 1, 512), Seed::new(1));
    assert!(replayed(&more.lock().unwrap(), &policy()).is_same());
    log.continue_in(Full(more, 0)).unwrap();
    log.find(&hosts, &request(1, 1, 512), Seed::new(1));
    assert_eq!(log.finish().err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
}

#[test]
fn it_says_what_ends_a_log() {
    let is_the_end = |log: &[u8]| replay(log, &policy(), |_| {}).is_err_and(|e| e.is_the_end());
    assert!(is_the_end(b"{}\n"));
    assert!(is_the_end(b"[0,{\"log\":{\"decisions\":9,\"policy\":\"\",\"more\":1}}]\n"));
    assert!(!is_the_end(b""));
    assert!(matches!(
        replay(&b"[0,{\"log\":7}]\n"[..], &policy(), |_| {}),
        Err(LogError::NotALog { line: 1, .. })
    ));
}
