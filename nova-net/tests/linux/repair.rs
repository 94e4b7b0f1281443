//! What somebody else breaks is made again, and what is not ours is left alone.

use std::process::Command;

use nova_core::store::Revision;
use nova_net::backend::{BackendError, NetBackend as _};
use nova_net::host::HostNet;
use nova_net::plan::diff;

use crate::lab::{FLOATING, HOST, flat, port, run, with_floating};

#[test]
fn what_was_removed_behind_its_back_is_made_again() {
    run("what was removed", async |lab| {
        let one = lab.guest(&port(2));
        let desired = with_floating(flat(&[2]), 2);
        lab.converge(&desired).await.unwrap();
        let host = lab.host.clone();
        let breaks: [&dyn Fn(); 5] = [
            &|| lab.ip(&host, &["link", "del", "br100"]),
            &|| lab.ip(&host, &["addr", "del", &format!("{FLOATING}/32"), "dev", "ext0"]),
            &|| drop(lab.exec(&host, &["nft", "flush", "ruleset"])),
            &|| {
                drop(lab.exec(
                    &host,
                    &["nft", "delete", "element", "bridge", "nova", "ports", "{ tap2 }"],
                ))
            },
            &|| {
                let pid = std::fs::read_dir(lab.folder.path()).unwrap().flatten();
                let pid = pid
                    .map(|entry| entry.path())
                    .find(|p| p.extension().is_some_and(|e| e == "pid"));
                let pid = std::fs::read_to_string(pid.unwrap()).unwrap();
                assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
                // It is gone when nothing answers any more.
                while std::fs::read(format!("/proc/{}/cmdline", pid.trim()))
                    .is_ok_and(|c| !c.is_empty())
                {
                    std::thread::yield_now();
                }
            },
        ];
        for (nth, damage) in breaks.into_iter().enumerate() {
            damage();
            let seen = lab.backend.observe(HOST).await.unwrap();
            assert_ne!(seen, desired, "damage {nth} is seen");
            lab.converge(&desired).await.unwrap();
            assert_eq!(lab.backend.observe(HOST).await.unwrap(), desired, "damage {nth} is mended");
            assert!(lab.dhcp(&one).starts_with("ip=10.0.0.2 "), "after damage {nth}");
            assert!(lab.pings(&lab.outside(), FLOATING), "after damage {nth}");
        }
    });
}

#[test]
fn what_is_left_of_broken_parts_goes_with_them() {
    run("what is left of broken parts", async |lab| {
        let before = lab.state();
        lab.converge(&with_floating(flat(&[2]), 2)).await.unwrap();
        lab.ip(&lab.host.clone(), &["link", "del", "br100"]);
        lab.converge(&HostNet::new()).await.unwrap();
        assert_eq!(lab.state(), before);
        let left = std::fs::read_dir(lab.folder.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["network.json"], "the DHCP server has ended");
    });
}

#[test]
fn an_agent_that_starts_again_finds_what_it_made_and_changes_nothing() {
    run("an agent that starts again", async |lab| {
        let _one = lab.guest(&port(2));
        let desired = with_floating(flat(&[2]), 2);
        lab.converge(&desired).await.unwrap();
        let before = lab.state();
        lab.restart();
        assert_eq!(lab.converge(&desired).await.unwrap(), 0);
        assert_eq!(lab.state(), before);
    });
}

#[test]
fn a_plan_that_is_older_than_one_that_was_accepted_is_refused_after_a_restart_too() {
    run("an older plan", async |lab| {
        let plan = diff(&HostNet::new(), &flat(&[]));
        lab.backend.apply(HOST, Revision(9), &plan).await.unwrap();
        lab.restart();
        let refused = lab.backend.apply(HOST, Revision(8), &plan).await;
        let accepted = Revision(9);
        assert!(
            matches!(refused, Err(BackendError::Outdated { accepted: a, .. }) if a == accepted),
            "{refused:?}"
        );
        lab.backend.apply(HOST, Revision(9), &plan).await.unwrap();
    });
}

#[test]
fn a_bridge_that_somebody_else_made_is_not_touched() {
    run("somebody else's bridge", async |lab| {
        let host = lab.host.clone();
        lab.ip(&host, &["link", "add", "br100", "type", "bridge"]);
        let failed = lab.converge(&flat(&[])).await;
        let Err(BackendError::Step { source, .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(source.to_string(), "interface br100 is there and not ours");
        assert!(
            lab.state().contains("br100")
                || lab.exec(&host, &["ip", "link", "show", "br100"]).status.success()
        );
    });
}

#[test]
fn any_beginning_of_a_plan_can_be_gone_on_with() {
    run("any beginning of a plan", async |lab| {
        let desired = with_floating(flat(&[2, 3]), 2);
        let whole = diff(&HostNet::new(), &desired);
        for length in 0..whole.steps().len() {
            let part = whole.steps()[..length].iter().map(|step| step.action.clone());
            let part = nova_net::plan::Plan::new(part);
            lab.backend.apply(HOST, Revision(1), &part).await.unwrap();
            lab.restart();
            lab.converge_from(&desired, Revision(1)).await;
            lab.converge_from(&HostNet::new(), Revision(1)).await;
        }
    });
}
