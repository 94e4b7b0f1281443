//! Small simulations of every kind, drawn.

use nova_core::domain::*;
use nova_sched::sim::{
    ClusterConfig, CpuUse, Failures, Foresight, HostGroup, Maintenance, MoveCost, Planning,
    PowerCurve, Preemption, Resizes, Scenario, Several, Waiting,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::checker::{Given, Row};
use super::runs::{Mover, Policy, Run};

const POLICIES: [Policy; 11] = [
    Policy::Named("first-fit"),
    Policy::Named("best-fit"),
    Policy::Named("worst-fit"),
    Policy::Named("nova"),
    Policy::Named("random-fit"),
    Policy::Named("dot-product"),
    Policy::Named("fragmentation-gradient"),
    Policy::Named("lifetime"),
    Policy::Named("power"),
    Policy::Few(2),
    Policy::Few(3),
];

fn cluster() -> impl Strategy<Value = ClusterConfig> {
    let group = (
        (1_u32..4, 2_u32..12, 2_u64..12, select(vec![0_u64, 20, 100]), 0_u64..2000),
        (select(vec![1.0, 1.5, 2.1]), select(vec![1.0, 1.3]), any::<bool>(), 0_u32..3),
        prop::option::of(prop::collection::vec(50.0..400.0, 2..5)),
    );
    prop::collection::vec(group, 1..4).prop_map(|groups| {
        let groups = groups.into_iter().zip(["a", "b", "c"]);
        let hosts = groups.map(|((sizes, rules, watts), name)| {
            let ((count, vcpus, memory, disk, reserved), (vcpu, mem, zone, racks)) = (sizes, rules);
            HostGroup {
                disk_gib: disk,
                reserved_memory_mib: reserved,
                vcpu_ratio: vcpu,
                memory_ratio: mem,
                zone: if zone { "left" } else { "right" }.to_owned(),
                racks,
                power_watts: watts.map(|watts| PowerCurve::new(watts).unwrap()),
                ..HostGroup::new(name, count, Vcpus(vcpus), MiB(memory * 1024))
            }
        });
        ClusterConfig { hosts: hosts.collect() }
    })
}

/// Rows in the order of arrival, those of one moment together or apart.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let lasts = select(vec![None, Some(0), Some(1), Some(7), Some(60), Some(900), Some(5000)]);
    let one = (1_u64..7, 1_u64..12, select(vec![0_u64, 0, 0, 9]), lasts, 0_u8..4);
    let together = (
        select(vec![0_u64, 0, 1, 6, 60, 61, 700, 3000]),
        prop::collection::vec(one, 1..4),
        prop::bool::weighted(0.4),
    );
    prop::collection::vec(together, 1..16).prop_map(|moments| {
        let (mut at, mut rows) = (0, Vec::new());
        for (gang, (gap, ones, stands)) in moments.into_iter().enumerate() {
            at += gap;
            for (vcpus, memory, disk, lasts, priority) in ones {
                rows.push(Row {
                    vm: rows.len() as u64 + 10,
                    arrival_s: at,
                    end_s: lasts.map(|lasts| at + lasts),
                    takes: [vcpus, memory * 512, disk],
                    priority,
                    gang: stands.then_some(gang as u64),
                    cpu_permille: [None, Some(0), Some(300), Some(1000)][rows.len() % 4],
                });
            }
        }
        rows
    })
}

fn windows() -> impl Strategy<Value = Vec<Maintenance>> {
    let which = select(vec!["a-0000001", "zone:left", "zone:right", "rack:a-rack-1"]);
    let one = (which, 0_u64..4000, 1_u64..3000, select(vec![0_u64, 1, 600, 3600]));
    let window = |(hosts, from_s, lasts, notice_s): (&str, u64, u64, u64)| Maintenance {
        hosts: hosts.to_owned(),
        from_s,
        until_s: from_s + lasts,
        notice_s,
    };
    prop::collection::vec(one.prop_map(window), 0..4)
}

type Crowd = (Option<Waiting>, Option<Preemption>, Option<Foresight>, Option<Several>);

fn crowd() -> impl Strategy<Value = Crowd> {
    let waiting = (1_u64..4000, 0_usize..4)
        .prop_map(|(patience_s, backfill)| Waiting { patience_s, backfill });
    let preemption = (1_u8..3, 1_usize..5)
        .prop_map(|(priority_gap, hosts_tried)| Preemption { priority_gap, hosts_tried });
    let foresight = select(vec![0.0, 0.7]).prop_map(|noise| Foresight { noise });
    let delays = (select(vec![0_u64, 10, 2000]), select(vec![500_u64, 5000, 600_000]));
    let several =
        (1_usize..4, delays, 0_u32..3).prop_map(|(count, (decision_ms, sync_ms), retries)| {
            Several { count, decision_ms, sync_ms, retries }
        });
    (
        prop::option::of(waiting),
        prop::option::of(preemption),
        prop::option::weighted(0.3, foresight),
        prop::option::weighted(0.3, several),
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let failures = (0.1..3.0, 0.05..1.0, any::<bool>(), any::<bool>()).prop_map(
        |(mtbf_h, mttr_h, restart, by_rack)| Failures { mtbf_h, mttr_h, restart, by_rack },
    );
    let factors = prop::collection::vec(select(vec![0.5, 1.0, 1.5, 2.0]), 1..4);
    let resizes =
        (10.0..900.0, factors).prop_map(|(per_vm_day, factors)| Resizes { per_vm_day, factors });
    let costs = (select(vec![1.0, 30.0, 1192.0]), 0.0..1.0, select(vec![0_u64, 500]));
    let ticks = (select(vec![1_u64, 60, 900]), 1_usize..9, select(vec![7_u64, 60, 3600]));
    let until = select(vec![None, None, Some(0_u64), Some(700), Some(9000)]);
    (
        crowd(),
        prop::option::weighted(0.4, failures),
        prop::option::weighted(0.4, resizes),
        windows(),
        (costs, ticks, any::<bool>(), until),
    )
        .prop_map(|(crowd, failures, resizes, maintenance, (costs, ticks, off, until))| {
            let mut scenario = Scenario::default();
            (scenario.waiting, scenario.preemption, scenario.foresight, scenario.schedulers) =
                crowd;
            (scenario.failures, scenario.resizes) = (failures, resizes);
            scenario.maintenance = maintenance;
            let (bandwidth_mib_s, dirty_share, overhead_ms) = costs;
            scenario.moves = MoveCost { bandwidth_mib_s, dirty_share, overhead_ms };
            scenario.planning = Planning { every_s: ticks.0, moves_max: ticks.1 };
            scenario.sample_every_s = ticks.2;
            (scenario.switch_off_empty_hosts, scenario.measure_until_s) = (off, until);
            scenario
        })
}

fn cpu_use() -> impl Strategy<Value = (Option<CpuUse>, Option<Given>)> {
    let rules = (select(vec![7_u64, 60, 300]), 0_u16..=1000, 0.0..=1.0, any::<bool>());
    let rules = rules.prop_map(|(every_s, untold_permille, lost_in_moves, tells_hosts)| CpuUse {
        every_s,
        untold_permille,
        lost_in_moves,
        tells_hosts,
    });
    let course = prop::collection::vec(0_u16..=1000, 1..9);
    let courses = prop::collection::btree_map(8_u64..30, course, 1..12);
    let given = (select(vec![5_u64, 60, 300]), any::<bool>(), courses)
        .prop_map(|(step_s, own, courses)| Given { step_s, own, courses });
    prop::option::weighted(0.5, (rules, prop::option::of(given)))
        .prop_map(|both| both.map_or((None, None), |(rules, given)| (Some(rules), given)))
}

/// Any simulation.
pub(super) fn run() -> impl Strategy<Value = Run> {
    let movers = select(vec![Mover::Nobody, Mover::Consolidate, Mover::Defragment, Mover::Relieve]);
    let who = (select(POLICIES.to_vec()), movers, any::<u64>());
    (cluster(), rows(), scenario(), cpu_use(), who).prop_map(
        |(cluster, rows, mut scenario, (cpu_use, courses), (policy, mover, seed))| {
            scenario.cpu_use = cpu_use;
            // Windows of hosts that this cluster does not have are refused, which is not the point.
            scenario.maintenance.retain(|window| {
                let a = &cluster.hosts[0];
                match window.hosts.as_str() {
                    "a-0000001" => true,
                    "rack:a-rack-1" => a.racks > 0,
                    zone => {
                        cluster.hosts.iter().any(|group| zone == format!("zone:{}", group.zone))
                    }
                }
            });
            Run { cluster, rows, scenario, policy, mover, courses, seed }
        },
    )
}
