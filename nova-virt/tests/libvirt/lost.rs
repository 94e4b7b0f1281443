//! The daemon's connection is lost, or the agent is killed, at every call of every verb: done again,
//! the verb ends as it should.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::lab;
use crate::proxy::{Moment, Proxy};
use crate::verbs::{Kind, Place, Verb};

/// No verb has as many calls.
const CALLS_MAX: u32 = 100;

/// Without a limit: the number of calls is one.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

fn moments() -> impl Iterator<Item = Moment> {
    (0..CALLS_MAX).flat_map(|call| [Moment::Before(call), Moment::After(call)])
}

fn a_lost_connection(kind: Kind) {
    run(async move {
        let folder = lab::folder("lost");
        let proxy = Proxy::in_folder(&folder);
        let place = Place::open(kind, &folder, proxy.socket()).await;
        let (mut boot, mut losses) = (0, 0);
        for verb in kind.verbs() {
            for moment in moments() {
                boot += 1;
                proxy.at(moment, || {});
                let first = place.ask(*verb, boot).await;
                if !proxy.rest() {
                    // It has no such call.
                    first.unwrap();
                    place.check(*verb, boot).await;
                    place.undo(*verb).await;
                    if matches!(moment, Moment::Before(_)) {
                        break;
                    }
                    continue;
                }
                losses += 1;
                if first.is_err() {
                    let again = place.ask(*verb, boot).await;
                    again.unwrap_or_else(|error| panic!("{verb:?} {moment:?}: {error:?}"));
                }
                place.check(*verb, boot).await;
                place.undo(*verb).await;
            }
            boot += 1;
            place.ask(*verb, boot).await.unwrap();
        }
        println!("{kind:?}: the connection was lost {losses} times");
        assert!(losses > 2 * kind.verbs().len());
    });
}

#[test]
fn a_container_is_as_it_was_asked_to_be_wherever_the_connection_was_lost() {
    if lab::is_here("lost container") {
        a_lost_connection(Kind::Container);
    }
}

#[test]
fn a_machine_is_as_it_was_asked_to_be_wherever_the_connection_was_lost() {
    if lab::is_here("lost machine") {
        a_lost_connection(Kind::Machine);
    }
}

const FOLDER: &str = "NOVA_VIRT_LOST_FOLDER";
const WHAT: &str = "NOVA_VIRT_LOST_VERB";

/// What the others start and kill; on its own it does nothing.
#[test]
fn the_agent_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let what = std::env::var(WHAT).unwrap();
    run(async {
        let (kind, verb, boot) = read(&what);
        let place = Place::open(kind, &folder, &folder.join("proxy")).await;
        place.ask(verb, boot).await.unwrap();
    });
}

fn read(what: &str) -> (Kind, Verb, u64) {
    let mut words = what.split(' ');
    let (kind, verb) = (words.next().unwrap(), words.next().unwrap());
    let kind = if kind == "Machine" { Kind::Machine } else { Kind::Container };
    let verb = kind.verbs().iter().find(|known| format!("{known:?}") == verb).copied();
    (kind, verb.unwrap(), words.next().unwrap().parse().unwrap())
}

fn begin(folder: &Path, kind: Kind, verb: Verb, boot: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lost::the_agent_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env(WHAT, format!("{kind:?} {verb:?} {boot}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn a_killed_agent(kind: Kind, verbs: &[Verb]) {
    let daemon = Path::new("/run/libvirt/libvirt-sock");
    let folder = lab::folder("killed");
    let proxy = Proxy::in_folder(&folder);
    let (mut boot, mut deaths) = (0, 0);
    for verb in verbs {
        for moment in moments() {
            boot += 1;
            let agent: Arc<Mutex<Option<OwnedFd>>> = Arc::default();
            let killed = Arc::clone(&agent);
            proxy.at(moment, move || {
                if let Some(agent) = killed.lock().unwrap().as_ref() {
                    // It has not ended: it waits for this call.
                    pidfd_send_signal(agent, Signal::KILL).unwrap();
                }
            });
            // Held until it is noted: the moment may come at once.
            let mut noted = agent.lock().unwrap();
            let mut child = begin(&folder, kind, *verb, boot);
            let process = Pid::from_child(&child);
            *noted = Some(pidfd_open(process, PidfdFlags::empty()).unwrap());
            drop(noted);
            let ended = child.wait().unwrap();
            let over = !proxy.rest();
            assert_eq!(ended.success(), over, "{verb:?} {moment:?}");
            run(async {
                // The next agent.
                let place = Place::open(kind, &folder, daemon).await;
                let again = place.ask(*verb, boot).await;
                again.unwrap_or_else(|error| panic!("{verb:?} {moment:?}: {error:?}"));
                place.check(*verb, boot).await;
                if !over || matches!(moment, Moment::After(_)) {
                    place.undo(*verb).await;
                }
            });
            if over && matches!(moment, Moment::Before(_)) {
                break;
            }
            deaths += u32::from(!over);
        }
    }
    println!("{kind:?}: the agent was killed {deaths} times");
    assert!(deaths as usize > 2 * verbs.len());
}

#[test]
fn a_container_is_finished_by_the_next_agent_wherever_the_first_was_killed() {
    if lab::is_here("killed with a container") {
        let verbs = [Verb::Create, Verb::Reboot, Verb::Stop, Verb::Start, Verb::Remove];
        a_killed_agent(Kind::Container, &verbs);
    }
}

#[test]
fn a_machine_is_finished_by_the_next_agent_wherever_the_first_was_killed() {
    if lab::is_here("killed with a machine") {
        a_killed_agent(Kind::Machine, &[Verb::Create, Verb::Rescue, Verb::Unrescue, Verb::Remove]);
    }
}
