//! What happens in a simulation, told to whoever watches.

use std::fmt::Debug;
use std::io::{self, Write};

use nova_core::domain::Slot;

use super::{VmKey, World};

/// Something that happened, a moment ago: the world is as it is after it.
///
/// A VM that is named can be looked up in the world while the event is told, even when it leaves
/// with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A VM asks for a host.
    Arrived {
        /// The VM.
        vm: VmKey,
    },
    /// A VM got a host.
    Placed {
        /// The VM.
        vm: VmKey,
        /// Its host.
        host: Slot,
    },
    /// A VM found no host and waits for one.
    Waits {
        /// The VM.
        vm: VmKey,
    },
    /// A VM leaves without ever having had a host, or without having got one again.
    Refused {
        /// The VM.
        vm: VmKey,
        /// Why.
        why: Refused,
    },
    /// A VM reached its end, as the trace has it.
    Departed {
        /// The VM.
        vm: VmKey,
        /// Where it was; none when it waited, after it had been put off a host.
        host: Option<Slot>,
    },
    /// A VM was put off its host against its will.
    PutOff {
        /// The VM.
        vm: VmKey,
        /// Where it was.
        host: Slot,
        /// Why.
        why: PutOff,
    },
    /// A VM has another shape, on the host on which it was or on another.
    Resized {
        /// The VM.
        vm: VmKey,
        /// Where it was.
        from: Slot,
        /// Where it is.
        to: Slot,
    },
    /// A VM could not be resized: no host had room.
    ResizeRefused {
        /// The VM.
        vm: VmKey,
    },
    /// A live migration began: both hosts have room for the VM until it ends.
    MoveBegan {
        /// The VM.
        vm: VmKey,
        /// Where it runs.
        from: Slot,
        /// Where it goes.
        to: Slot,
    },
    /// A live migration ended, and the VM runs at its goal; or was given up, and it runs where it
    /// was.
    MoveEnded {
        /// The VM.
        vm: VmKey,
        /// Where it was.
        from: Slot,
        /// Where it was to go.
        to: Slot,
        /// Whether it got there.
        arrived: bool,
    },
    /// A host failed. Its VMs are put off after this.
    HostDown {
        /// The host.
        host: Slot,
    },
    /// A host is back.
    HostUp {
        /// The host.
        host: Slot,
    },
    /// A host takes no new VMs, for maintenance.
    HostClosed {
        /// The host.
        host: Slot,
    },
    /// A host takes new VMs again.
    HostOpened {
        /// The host.
        host: Slot,
    },
    /// It was read what every VM uses.
    UseRead,
    /// A scheduler chose a host on an old view, on which there is no room.
    Conflict {
        /// The VM.
        vm: VmKey,
        /// The host.
        host: Slot,
        /// Which scheduler, from 0 on.
        scheduler: usize,
    },
}

/// Why a VM was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refused {
    /// No host would take it.
    NoHost,
    /// One of its gang found no host.
    Gang,
    /// It waited for as long as it is willing to.
    Patience,
    /// It was to leave before a host was found.
    Ended,
    /// Every scheduler's choice was taken by somebody else, too often.
    Conflicts,
}

/// Why a VM was put off its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PutOff {
    /// The host failed.
    Failure,
    /// The host is maintained, and it could not be moved away in time.
    Maintenance,
    /// One that is more important needs the room.
    Preemption,
}

/// Watches a simulation. Everything that happens is told once, in its order.
pub trait Watcher: Debug {
    /// What has just happened, and the world after it.
    fn saw(&mut self, world: &World, event: &Event);

    /// The world at one of the regular moments at which samples are taken.
    fn sampled(&mut self, world: &World) {
        let _ = world;
    }
}

/// Writes every event as one line of JSON, for replays, checks and other programs.
///
/// Each line has `t`, the milliseconds of virtual time, and `what`; then, as far as they make
/// sense, the number of the `vm`, its `vcpus`, `mem_mib` and `disk_gib`, and the names of hosts.
/// Where use is measured, who is placed has its `cpu_permille` at that time and, where it follows a
/// course, the number of the VM whose `course` it is and the sample `course_from` which it follows
/// it.
#[derive(Debug)]
pub struct EventLog<W: Write> {
    writer: W,
    failed: Option<io::Error>,
}

#[derive(Default, serde::Serialize)]
struct Line<'w> {
    t: u64,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vcpus: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_mib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_gib: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'w str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'w str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_permille: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    course: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    course_from: Option<usize>,
}

#[derive(serde::Serialize)]
#[serde(untagged)]
enum Why {
    Refused(Refused),
    PutOff(PutOff),
}

impl<W: Write> EventLog<W> {
    /// A log that is written to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer, failed: None }
    }

    /// The writer, flushed.
    ///
    /// # Errors
    /// The first error of writing; what came after it was not written.
    pub fn finish(mut self) -> io::Result<W> {
        match self.failed {
            Some(error) => Err(error),
            None => self.writer.flush().map(|()| self.writer),
        }
    }

    fn write(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, line)?;
        self.writer.write_all(b"\n")
    }
}

impl<W: Write + Debug> Watcher for EventLog<W> {
    fn saw(&mut self, world: &World, event: &Event) {
        if self.failed.is_some() {
            return;
        }
        if let Err(error) = self.write(&line(world, event)) {
            self.failed = Some(error);
        }
    }
}

fn line<'w>(world: &'w World, event: &Event) -> Line<'w> {
    let name = |slot: Slot| world.hosts().at(slot).map(|row| row.name.as_str());
    let of = |what: &'static str, vm: Option<VmKey>, host: Option<Slot>| {
        let vm = vm.and_then(|key| world.vm(key));
        let takes = vm.map(|vm| world.resources_of(vm));
        Line {
            t: world.now().millis(),
            what,
            vm: vm.map(|vm| vm.number),
            vcpus: takes.map(|takes| takes.vcpus.get()),
            mem_mib: takes.map(|takes| takes.memory.get()),
            disk_gib: takes.map(|takes| takes.disk.get()).filter(|disk| *disk > 0),
            host: host.and_then(name),
            ..Line::default()
        }
    };
    match *event {
        Event::Arrived { vm } => of("arrived", Some(vm), None),
        Event::Placed { vm, host } => {
            let mut line = of("placed", Some(vm), Some(host));
            if let Some((permille, followed)) = world.use_of(vm) {
                line.cpu_permille = Some(permille);
                (line.course, line.course_from) = followed.unzip();
            }
            line
        }
        Event::Waits { vm } => of("waits", Some(vm), None),
        Event::Refused { vm, why } => {
            Line { why: Some(Why::Refused(why)), ..of("refused", Some(vm), None) }
        }
        Event::Departed { vm, host } => of("departed", Some(vm), host),
        Event::PutOff { vm, host, why } => {
            Line { why: Some(Why::PutOff(why)), ..of("put_off", Some(vm), Some(host)) }
        }
        Event::Resized { vm, from, to } => {
            Line { to: name(to), ..of("resized", Some(vm), Some(from)) }
        }
        Event::ResizeRefused { vm } => {
            let host = world.vm(vm).and_then(|vm| vm.place.host());
            of("resize_refused", Some(vm), host)
        }
        Event::MoveBegan { vm, from, to } => {
            Line { to: name(to), ..of("move_began", Some(vm), Some(from)) }
        }
        Event::MoveEnded { vm, from, to, arrived } => {
            let arrived = Some(arrived);
            Line { to: name(to), arrived, ..of("move_ended", Some(vm), Some(from)) }
        }
        Event::HostDown { host } => of("host_down", None, Some(host)),
        Event::HostUp { host } => of("host_up", None, Some(host)),
        Event::HostClosed { host } => of("host_closed", None, Some(host)),
        Event::HostOpened { host } => of("host_opened", None, Some(host)),
        Event::UseRead => of("use_read", None, None),
        Event::Conflict { vm, host, scheduler } => {
            Line { scheduler: Some(scheduler), ..of("conflict", Some(vm), Some(host)) }
        }
    }
}
