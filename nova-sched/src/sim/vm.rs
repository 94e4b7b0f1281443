//! The VMs that are in a simulation.

use nova_core::domain::{Flavor, InstanceId, RequestSpec, Resources, Slot};
use rustc_hash::FxHashMap;
use std::sync::Arc;

use super::Moment;

/// A VM of a simulation, for as long as it is in it. When it has left, its key is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmKey(pub(crate) u32);

/// Which shape a VM has; see [`World::shape`](super::World::shape).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeKey(pub(crate) u32);

/// A VM that waits, runs or moves.
#[derive(Debug, Clone)]
pub struct Vm {
    /// The number that the trace has for it.
    pub number: u64,
    /// How manieth it came, from 0 on.
    pub order: u64,
    /// Its shape now.
    pub shape: ShapeKey,
    /// When it asked for a host.
    pub arrived: Moment,
    /// When it leaves; [`Moment::NEVER`] when it stays. Nobody may plan with this: see
    /// [`expected_end`](Self::expected_end).
    pub ends: Moment,
    /// When it is expected to leave, as far as the policy is told.
    pub expected_end: Moment,
    /// Where it is.
    pub place: Place,
    /// 0 is the least important.
    pub priority: u8,
    /// The share of its vCPUs that it uses on average, 0 to 1000; none where the trace does not
    /// tell.
    pub cpu_permille: Option<u16>,
    /// Those that come with it and are placed with it or not at all.
    pub gang: Option<u64>,
    /// Whether it ever had a host.
    pub started: bool,
    /// When it last asked for a host: when it came, or was put off one. Patience begins there.
    pub asked: Moment,
    /// Whether it found no host when it asked, and waits for one.
    pub waits: bool,
    /// When its latest move ends.
    pub(crate) move_ends: Moment,
    /// Whether its departure is planned.
    pub(crate) leaves: bool,
    /// Tells it from others that had its key.
    pub(crate) born: u32,
}

/// Where a VM is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere yet, or no longer.
    Waiting,
    /// On this host.
    On(Slot),
    /// Running on one host and on its way to another; both have room for it.
    Moving {
        /// Where it runs.
        from: Slot,
        /// Where it goes.
        to: Slot,
    },
}

impl Place {
    /// The host on which it runs.
    pub const fn host(self) -> Option<Slot> {
        match self {
            Self::Waiting => None,
            Self::On(host) | Self::Moving { from: host, .. } => Some(host),
        }
    }
}

/// What VMs of one shape have in common.
#[derive(Debug)]
pub struct Shape {
    /// What each of them takes.
    pub resources: Resources,
    /// Its flavor.
    pub flavor: Arc<Flavor>,
    /// The question to the scheduler, into which each VM is written.
    pub(crate) request: RequestSpec,
    /// How many VMs of this shape asked for a host.
    pub requests: u64,
    /// How many of them got one, in the end.
    pub placed: u64,
}

/// The VMs by key and by number. Keys are given again, so that memory follows those that are there
/// and not the trace.
#[derive(Debug, Default)]
pub(crate) struct Vms {
    slots: Vec<Option<Vm>>,
    free: Vec<u32>,
    by_number: FxHashMap<u64, VmKey>,
    births: u32,
}

impl Vms {
    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(crate) fn add(&mut self, mut vm: Vm) -> VmKey {
        self.births = self.births.wrapping_add(1);
        vm.born = self.births;
        let number = vm.number;
        let key = match self.free.pop() {
            Some(key) => {
                self.slots[key as usize] = Some(vm);
                VmKey(key)
            }
            None => {
                self.slots.push(Some(vm));
                VmKey((self.slots.len() - 1) as u32)
            }
        };
        self.by_number.insert(number, key);
        key
    }

    pub(crate) fn get(&self, key: VmKey) -> Option<&Vm> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, key: VmKey) -> Option<&mut Vm> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    pub(crate) fn numbered(&self, number: u64) -> Option<VmKey> {
        self.by_number.get(&number).copied()
    }

    pub(crate) fn remove(&mut self, key: VmKey) -> Option<Vm> {
        let vm = self.slots.get_mut(key.0 as usize)?.take()?;
        self.by_number.remove(&vm.number);
        self.free.push(key.0);
        Some(vm)
    }
}

/// Instances of a trace have ids of their own, whatever runs on the hosts already.
pub(crate) fn instance_of(number: u64) -> InstanceId {
    InstanceId::from_u128(TRACE << 64 | u128::from(number))
}

/// The number of an instance that is of the trace.
pub(crate) fn number_of(instance: InstanceId) -> Option<u64> {
    let id = instance.as_u128();
    (id >> 64 == TRACE).then_some(id as u64)
}

const TRACE: u128 = 0x7472_6163_6500;
