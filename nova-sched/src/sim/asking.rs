//! VMs that ask for more than room: zones, hints, groups, extra specs.

use std::collections::BTreeMap;
use std::sync::Arc;

use nova_core::domain::{Flavor, HostId, HostTable, RequestSpec, ServerGroupId};
use rustc_hash::FxHashMap;

use super::Vm;
use super::vm::instance_of;

/// What VMs of a trace ask for beyond room, by their numbers; those that are not in it ask for
/// nothing else. See [`Simulation::with_requests`](super::Simulation::with_requests).
///
/// A group's members are counted where they are in the simulation. Those that are in the request
/// itself are counted besides: they are not of the trace, and stay where they are.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Requests {
    specs: Vec<RequestSpec>,
    /// Many ask for the same.
    by_text: FxHashMap<String, u32>,
    by_vm: FxHashMap<u64, u32>,
}

impl Requests {
    /// The VM of this number asks for this. Which instances are in `request`, where it was tried,
    /// and among how many hosts chance decides, plays no role.
    pub fn insert(&mut self, vm: u64, mut request: RequestSpec) {
        request.instances = vec![instance_of(0)];
        request.tried.clear();
        request.among = 1;
        // A request is a plain tree with string keys, which JSON can always hold.
        let text = serde_json::to_string(&request).unwrap_or_default();
        let next = self.specs.len() as u32;
        let nth = *self.by_text.entry(text).or_insert(next);
        if nth == next {
            self.specs.push(request);
        }
        self.by_vm.insert(vm, nth);
    }

    /// What a VM asks for; none where that is only room.
    pub fn of(&self, vm: u64) -> Option<&RequestSpec> {
        self.by_vm.get(&vm).and_then(|nth| self.specs.get(*nth as usize))
    }

    /// How many VMs ask for more than room.
    pub fn len(&self) -> usize {
        self.by_vm.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.by_vm.is_empty()
    }

    /// How many different requests there are.
    pub fn kinds(&self) -> usize {
        self.specs.len()
    }
}

/// The requests of a simulation, and where the members of their groups are.
#[derive(Debug)]
pub(crate) struct Asking {
    requests: Arc<Requests>,
    groups: FxHashMap<ServerGroupId, BTreeMap<HostId, u32>>,
    /// The present question.
    question: Option<RequestSpec>,
}

impl Asking {
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self { requests, groups: FxHashMap::default(), question: None }
    }

    /// Whether a VM asks for more than room.
    pub(crate) fn has(&self, vm: u64) -> bool {
        self.requests.of(vm).is_some()
    }

    /// A VM has got room on a host.
    pub(crate) fn joins(&mut self, vm: u64, host: HostId) {
        let group = self.requests.of(vm).and_then(|request| request.group.as_ref());
        if let Some(group) = group {
            *self.groups.entry(group.id).or_default().entry(host).or_default() += 1;
        }
    }

    /// A VM has given its room on a host back.
    pub(crate) fn leaves(&mut self, vm: u64, host: HostId) {
        let group = self.requests.of(vm).and_then(|request| request.group.as_ref());
        let Some(members) = group.and_then(|group| self.groups.get_mut(&group.id)) else { return };
        if let Some(count) = members.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                members.remove(&host);
            }
        }
    }

    /// What a VM asks of the scheduler now, with a flavor of the size that it has now; none when it
    /// asks for room only.
    pub(crate) fn question(
        &mut self,
        vm: &Vm,
        flavor: &Arc<Flavor>,
        hosts: &HostTable,
    ) -> Option<&mut RequestSpec> {
        let mut request = self.requests.of(vm.number)?.clone();
        if request.flavor.resources() != flavor.resources() {
            let specs = request.flavor.extra_specs().clone();
            request.flavor = Arc::new(Flavor::clone(flavor).with_extra_specs(specs));
        }
        if let Some(group) = &mut request.group {
            let instance = instance_of(vm.number);
            for (host, count) in self.groups.get(&group.id).into_iter().flatten() {
                // It does not count itself.
                let here = hosts.get(*host).is_some_and(|row| row.has_instance(instance));
                let others = count.saturating_sub(here.into());
                if others > 0 {
                    *group.members_by_host.entry(*host).or_default() += others;
                    group.hosts.insert(*host);
                }
            }
        }
        Some(self.question.insert(request))
    }
}
