//! Room for the request.

use nova_core::domain::{HostState, RequestSpec, ResourceKind};

use crate::{Filter, Reason, Verdict};

/// Passes hosts where the flavor fits beside what is claimed: virtual CPUs, memory and disk, each
/// against `(total - reserved) * ratio`, and none larger than what the host physically has.
///
/// Every policy has it: no scheduler may over-commit. It takes the place of Nova's placement
/// service, and of the core, RAM and disk filters of earlier days.
#[derive(Debug, Default, Clone, Copy)]
pub struct Capacity;

impl Filter for Capacity {
    fn name(&self) -> &str {
        "capacity"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        match host.lacks(&request.flavor.resources()) {
            None => Verdict::Pass,
            Some(ResourceKind::Vcpus) => Verdict::Reject(Reason("too few vcpus")),
            Some(ResourceKind::Memory) => Verdict::Reject(Reason("too little memory")),
            Some(ResourceKind::Disk) => Verdict::Reject(Reason("too little disk")),
            Some(_) => Verdict::Reject(Reason("too little of a resource")),
        }
    }
}

#[cfg(test)]
mod tests {
    use nova_core::domain::{
        AllocationRatio, GiB, InstanceId, Inventory, MiB, Resources, Stock, Vcpus,
    };

    use super::*;
    use crate::filters::{check, wants};

    fn with(change: impl FnOnce(&mut Inventory)) -> impl FnOnce(&mut HostState) {
        move |host| change(&mut host.inventory)
    }

    #[test]
    fn an_empty_host_takes_all_of_itself_and_not_one_more() {
        check(Capacity, |_| {}, wants(8, 8192, 100), Ok(()));
        check(Capacity, |_| {}, wants(9, 8192, 100), Err("too few vcpus"));
        check(Capacity, |_| {}, wants(8, 8193, 100), Err("too little memory"));
        check(Capacity, |_| {}, wants(8, 8192, 101), Err("too little disk"));
    }

    #[test]
    fn what_is_claimed_counts() {
        let claim = |h: &mut HostState| {
            let amount = Resources { vcpus: Vcpus(7), memory: MiB(1), disk: GiB(1) };
            h.claim(InstanceId::from_u128(9), amount);
        };
        check(Capacity, claim, wants(1, 1, 1), Ok(()));
        check(Capacity, claim, wants(2, 1, 1), Err("too few vcpus"));
    }

    #[test]
    fn what_is_reserved_is_kept() {
        let keep = || with(|i| i.memory = Stock::new(MiB(8192)).with_reserved(MiB(512)).unwrap());
        check(Capacity, keep(), wants(1, 7680, 1), Ok(()));
        check(Capacity, keep(), wants(1, 7681, 1), Err("too little memory"));
    }

    #[test]
    fn a_ratio_promises_more_but_never_to_one_guest() {
        let claim_all = |h: &mut HostState| {
            h.inventory.vcpus = Stock::new(Vcpus(8)).with_ratio(AllocationRatio::new(2.0).unwrap());
            let amount = Resources { vcpus: Vcpus(8), ..Resources::ZERO };
            h.claim(InstanceId::from_u128(9), amount);
        };
        check(Capacity, claim_all, wants(8, 1, 1), Ok(()));
        check(Capacity, claim_all, wants(9, 1, 1), Err("too few vcpus"));
    }
}
