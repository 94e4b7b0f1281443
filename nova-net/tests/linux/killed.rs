//! Agents that are killed in the middle of a plan.

use std::process::{Child, Command, Stdio};

use nova_core::store::Revision;
use nova_net::backend::NetBackend as _;
use nova_net::backend::linux::{HostPlace, Linux};
use nova_net::host::HostNet;
use nova_net::plan::diff;

use crate::lab::{FLOATING, HOST, Lab, flat, port, run, with_floating};

/// Where the agent that is to be killed works: its folder and its namespace.
const FOLDER: &str = "NOVA_NET_VICTIM_FOLDER";
const NAMESPACE: &str = "NOVA_NET_VICTIM_NAMESPACE";
/// From when its plans are.
const GENERATION: &str = "NOVA_NET_VICTIM_GENERATION";

/// What is made and taken down.
fn much() -> HostNet {
    with_floating(flat(&Vec::from_iter(2..20)), 2)
}

/// Makes a network and takes it down, again and again, until it is killed.
#[test]
fn victim() {
    let (Ok(folder), Ok(namespace)) = (std::env::var(FOLDER), std::env::var(NAMESPACE)) else {
        println!("skipped: this is the process that another test kills");
        return;
    };
    let generation = Revision(std::env::var(GENERATION).unwrap().parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let place = HostPlace::new(folder).in_namespace(&namespace);
        let linux = Linux::new().with_host(HOST, &place).unwrap();
        for net in [much(), HostNet::new()].iter().cycle() {
            let there = linux.observe(HOST).await.unwrap();
            linux.apply(HOST, generation, &diff(&there, net)).await.unwrap();
        }
    });
}

fn begin(lab: &Lab, generation: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed::victim"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.env(FOLDER, lab.folder.path()).env(NAMESPACE, &lab.host);
    command.env(GENERATION, generation.to_string()).spawn().unwrap()
}

/// Waits for a moment.
fn wait(victim: &mut Child, reached: impl Fn() -> bool) {
    while !reached() {
        assert!(victim.try_wait().unwrap().is_none(), "it does not end by itself");
    }
}

#[test]
fn an_agent_that_was_killed_in_the_middle_is_gone_on_with() {
    run("an agent that was killed", async |lab| {
        let before = lab.state();
        let guest = lab.guest(&port(2));
        let host = lab.host.clone();
        for round in 0..10 {
            let mut victim = begin(lab, round);
            let has = |link: &str, text: &str| {
                let shown = lab.exec(&host, &["ip", "-o", "addr", "show", "dev", link]).stdout;
                String::from_utf8(shown).unwrap().contains(text)
            };
            let file = |end: &str| {
                let files = std::fs::read_dir(lab.folder.path()).unwrap().flatten();
                files.map(|file| file.path()).any(|path| path.extension().is_some_and(|e| e == end))
            };
            match round % 5 {
                0 => wait(&mut victim, || file("json")),
                1 => wait(&mut victim, || has("br100", "10.0.0.1")),
                2 => wait(&mut victim, || file("pid")),
                3 => wait(&mut victim, || has("ext0", FLOATING)),
                _ => {
                    wait(&mut victim, || has("ext0", FLOATING));
                    wait(&mut victim, || !has("ext0", FLOATING));
                }
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
            lab.restart();
            let wanted = with_floating(flat(&[2, 30]), 2);
            // A server that was just being started may be in the way once.
            let mut attempts = 0;
            let converge = async || {
                let there = lab.backend.observe(HOST).await?;
                lab.backend.apply(HOST, Revision(round), &diff(&there, &wanted)).await
            };
            while let Err(error) = converge().await {
                attempts += 1;
                assert!(attempts < 3, "in round {round}: {error:?}");
            }
            assert_eq!(lab.backend.observe(HOST).await.unwrap(), wanted, "in round {round}");
            assert!(lab.dhcp(&guest).starts_with("ip=10.0.0.2 "), "in round {round}");
            assert!(lab.pings(&lab.outside(), FLOATING), "in round {round}");
            lab.converge_from(&HostNet::new(), Revision(round)).await;
        }
        lab.ip(&host, &["link", "del", "tap2"]);
        assert_eq!(lab.state(), before);
    });
}
