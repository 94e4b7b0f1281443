//! Room for the request.

use nova_core::domain::{HostState, Invalid, RequestSpec, ResourceClass, ResourceKind};

use crate::{Filter, Reason, Verdict};

/// Passes hosts where the flavor fits beside what is claimed: virtual CPUs, memory and disk, each
/// against `(total - reserved) * ratio`, and none larger than what the host physically has. So
/// with the resource classes that the flavor asks for besides (`resources:CUSTOM_LICENCE = 2`).
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
            None => match request.flavor.classes() {
                Ok(classes) if classes.is_empty() => Verdict::Pass,
                Ok(classes) if host.lacks_class(classes).is_none() => Verdict::Pass,
                Ok(_) => Verdict::Reject(Reason("too little of a resource class")),
                Err(_) => Verdict::Error(Reason("a resource class or its amount is malformed")),
            },
            Some(ResourceKind::Vcpus) => Verdict::Reject(Reason("too few vcpus")),
            Some(ResourceKind::Memory) => Verdict::Reject(Reason("too little memory")),
            Some(ResourceKind::Disk) => Verdict::Reject(Reason("too little disk")),
            Some(_) => Verdict::Reject(Reason("too little of a resource")),
        }
    }

    fn extra_spec(&self, key: &str, value: &str) -> Option<Result<(), Invalid>> {
        ResourceClass::check_extra_spec(key, value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nova_core::domain::{
        AllocationRatio, GiB, InstanceId, Inventory, MiB, Resources, Stock, Vcpus,
    };

    use super::*;
    use crate::filters::{check, wants};

    #[test]
    fn resource_classes_are_counted_too() {
        let licences = |host: &mut HostState| {
            host.set_classes([("CUSTOM_LICENCE".parse().unwrap(), Stock::new(3))].into());
            let one = crate::testkit::asking("resources:CUSTOM_LICENCE", "1");
            host.claim_classes(InstanceId::from_u128(9), one.classes().unwrap());
        };
        let asking = |key: &'static str, value: &'static str| {
            move |request: &mut RequestSpec| {
                request.flavor = Arc::new(crate::testkit::asking(key, value));
            }
        };
        let key = "resources:CUSTOM_LICENCE";
        let too_little = Err("too little of a resource class");
        check(Capacity, licences, asking(key, "2"), Ok(()));
        check(Capacity, licences, asking(key, "3"), too_little);
        check(Capacity, |_| {}, asking(key, "1"), too_little);
        check(Capacity, licences, asking("resources:CUSTOM_OTHER", "1"), too_little);
        let malformed = Err("a resource class or its amount is malformed");
        check(Capacity, licences, asking(key, "some"), malformed);
        check(Capacity, licences, asking("resources:VCPU", "1"), malformed);
    }

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
