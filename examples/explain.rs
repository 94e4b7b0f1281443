//! Why a server goes where it goes, why it finds no host, and what would have to change.
//!
//! Six hosts in a table that the program makes itself, no cloud: the scheduler works alone.

use std::error::Error;
use std::sync::Arc;

use nova_core::domain::{
    AllocationRatio, Flavor, GiB, HostId, HostState, HostTable, InstanceId, Inventory, MiB,
    RequestSpec, ResourceKind, Resources, Vcpus,
};
use nova_core::seed::Seed;
use nova_sched::FilterScheduler;
use nova_sched::explain::{HostChange, Recorder, WhyNot, what_if};

const HOST: Resources = Resources { vcpus: Vcpus(16), memory: MiB(32 << 10), disk: GiB(500) };

fn main() -> Result<(), Box<dyn Error>> {
    let policy = FilterScheduler::nova();
    let mut hosts = HostTable::new((1..=6).map(host).collect::<Result<Vec<_>, _>>()?);
    let mut recorder = Recorder::new(policy.clone(), 3);

    println!("Where does a server of 4 vCPUs go?");
    let decision = recorder.decide(&hosts, &request(4, 8 << 10)?, Seed::new(1));
    for choice in &decision.choices {
        println!("  {}", choice.funnel);
        for candidate in &choice.candidates {
            let name = name(&hosts, candidate.host);
            let added = candidate.parts.iter().filter(|part| part.weighted != 0.0);
            let parts: Vec<String> =
                added.map(|part| format!("{} {:.3}", part.weigher, part.weighted)).collect();
            println!("  {name} scores {:.3}: {}", candidate.score, parts.join(" + "));
        }
    }
    let again = decision.replay(&policy, &hosts)?;
    println!("  decided again: {}", same(again.to_bytes()? == decision.to_bytes()?));

    println!("Why not on host-6, or on host-2?");
    for id in [6, 2] {
        match policy.why_not(&hosts, HostId::from_u128(id), &request(4, 8 << 10)?)? {
            WhyNot::Refused { by, short_of } => {
                let by: Vec<String> = by.iter().map(|(f, why)| format!("{f}: {why}")).collect();
                println!("  host-{id}: {}", by.join(", "));
                for (kind, amount) in short_of {
                    println!("          {amount} more of {kind} would do");
                }
            }
            WhyNot::Outranked { rank, of, it, best } => {
                let best = format!("{} with {:.3}", name(&hosts, best.host), best.score);
                println!("  host-{id}: {rank} of {of} with {:.3}, behind {best}", it.score);
            }
            other => println!("  host-{id}: {other:?}"),
        }
    }

    println!("What of a server of 20 vCPUs would fit?");
    for change in policy.what_would_fit(&hosts, &request(20, 8 << 10)?).unwrap_or_default() {
        println!("  {change}");
    }

    println!("How many of 2 vCPUs and 3 GiB are there room for?");
    let small = request(2, 3 << 10)?;
    let room = policy.how_many_fit(&hosts, &small);
    println!("  {} in all", room.total);
    for host in &room.hosts {
        println!("  {}: {}, then {}", host.name, host.count, host.limit);
    }

    let ratio = AllocationRatio::new(2.0)?;
    let changes = [
        HostChange::Fail(HostId::from_u128(1)),
        HostChange::Ratio { host: None, resource: ResourceKind::Vcpus, ratio },
    ];
    hosts = what_if(&hosts, &changes)?;
    let room = policy.how_many_fit(&hosts, &small);
    println!("And without host-1, each vCPU promised twice? {} in all", room.total);
    Ok(())
}

/// A host of which the more is taken, the greater its number.
fn host(number: u32) -> Result<HostState, Box<dyn Error>> {
    let (id, name) = (HostId::from_u128(number.into()), format!("host-{number}").parse()?);
    let mut host = HostState::new(id, name, "rack-1".parse()?, Inventory::new(HOST));
    for nth in 0..number {
        let instance = InstanceId::from_u128(u128::from(number * 100 + nth));
        let taken = Resources { vcpus: Vcpus(2), memory: MiB(5 << 10), disk: GiB(20) };
        host.claim(instance, taken);
    }
    Ok(host)
}

fn request(vcpus: u32, mib: u64) -> Result<RequestSpec, Box<dyn Error>> {
    let flavor = Flavor::new("asked".parse()?, Vcpus(vcpus), MiB(mib))?;
    Ok(RequestSpec::new(InstanceId::from_u128(1), "demo".parse()?, Arc::new(flavor)))
}

fn name(hosts: &HostTable, id: HostId) -> String {
    hosts.get(id).map_or_else(|| id.to_string(), |host| host.name.to_string())
}

fn same(same: bool) -> &'static str {
    if same { "the same to the last byte" } else { "otherwise" }
}
