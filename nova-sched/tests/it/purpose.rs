//! What a request names, and what it is for.

use nova_core::domain::*;
use nova_core::port::Scheduler;
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;

use crate::kit::{host, ids, request};

/// Three hosts, the first down, the second full, all running lxc guests; what nova makes of a
/// request for one instance, changed so.
fn check(change: impl FnOnce(&mut RequestSpec), expected: Result<u128, &str>) {
    let table = HostTable::new((1..=3).map(|id| {
        let mut host = host(id, 8, 8192);
        if id == 1 {
            host.liveness = Liveness::Down;
        }
        if id == 2 {
            let all = Resources { vcpus: Vcpus(8), memory: MiB(8192), disk: GiB::ZERO };
            host.claim(InstanceId::from_u128(9), all);
        }
        let (architecture, hypervisor) = ("x86_64".to_owned(), "lxc".to_owned());
        host.guest_kinds =
            [GuestKind { architecture, hypervisor, vm_mode: "exe".to_owned() }].into();
        host
    }));
    let mut asked = request(1, 1, 1024);
    change(&mut asked);
    let answer = FilterScheduler::nova().select(&table, &asked, Seed::new(1));
    let said = match answer {
        Ok(placement) => Ok(ids(&placement.hosts)[0]),
        Err(refused) => Err(refused.funnel.to_string()),
    };
    match (said, expected) {
        (Ok(host), Ok(expected)) => assert_eq!(host, expected, "{asked:?}"),
        (Err(funnel), Err(part)) => assert!(funnel.contains(part), "{funnel} lacks {part}"),
        (said, expected) => panic!("{said:?} instead of {expected:?}"),
    }
}

fn force(id: u128, request: &mut RequestSpec) {
    request.force_hosts = vec![HostName::new(format!("host-{id}")).unwrap()];
}

fn wants_kvm(request: &mut RequestSpec) {
    request.image = ImageProperties::new([("img_hv_type", "kvm")]).unwrap();
}

#[test]
fn a_forced_host_is_asked_whether_it_is_up_and_has_room_and_nothing_else() {
    let image = |id| {
        move |r: &mut RequestSpec| {
            force(id, r);
            wants_kvm(r);
        }
    };
    check(image(3), Ok(3));
    check(
        image(2),
        Err(
            "requested-hosts 3 -> 1 (not among the forced hosts: 2), host-up 1 -> 1, capacity 1 -> 0",
        ),
    );
    check(image(1), Err("host-up 1 -> 0 (down: 1)"));
}

#[test]
fn a_check_asks_every_filter_of_forced_hosts() {
    let asks = |r: &mut RequestSpec| {
        force(3, r);
        wants_kvm(r);
        r.purpose = Purpose::Check;
    };
    check(asks, Err("image-properties 1 -> 0"));
}

#[test]
fn a_rebuild_asks_what_depends_on_the_image_and_nothing_else() {
    let rebuild = |id: u128| {
        move |r: &mut RequestSpec| {
            r.purpose = Purpose::Rebuild;
            let host = Some(HostName::new(format!("host-{id}")).unwrap());
            r.destination = Some(Destination { host, ..Destination::default() });
        }
    };
    check(rebuild(1), Ok(1));
    check(rebuild(2), Ok(2));
    let with_image = |r: &mut RequestSpec| {
        rebuild(2)(r);
        wants_kvm(r);
    };
    check(with_image, Err("image-properties 1 -> 0 (does not run this kind of guest: 1)"));
}
