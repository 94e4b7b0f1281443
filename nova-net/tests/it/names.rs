//! Names of guests, as they are told to the world.

use std::sync::Arc;

use nova_core::domain::NetworkKind;
use nova_core::port::{NetError, NetworkManager as _};
use nova_core::seed::Seed;
use nova_net::Networks;
use nova_net::dns::{Dns, DnsTable, HostsFiles};

use crate::world::{World, host, spec};

/// A manager over the world's records that tells names, too.
fn telling(world: &World, dns: Arc<dyn Dns>) -> Networks {
    let (store, clock) = (world.store.clone(), world.clock.clone());
    Networks::new(store, clock, Seed::new(1), world.backend.clone()).with_dns(dns)
}

#[test]
fn guests_have_names_as_long_as_they_are_on_a_host() {
    crate::hosts::run(async {
        let folder = tempfile::tempdir().unwrap();
        let (table, files) = (Arc::new(DnsTable::default()), HostsFiles::new(folder.path()));
        let world = World::new();
        let both = [telling(&world, table.clone()), telling(&world, Arc::new(files))];
        world.make(spec(NetworkKind::FlatDhcp, "10.0.0.0/24")).await;
        let mut address = Vec::new();
        for n in [1, 2] {
            address.push(world.ports(n, "demo", &[]).await[0].address);
            world.claim(n, n).await;
        }
        let converge = async |on: u128| {
            for networks in &both {
                networks.converge(host(on)).await.unwrap();
            }
        };
        let name =
            |n: usize| format!("host-{}.novalocal", address[n].to_string().replace('.', "-"));
        let in_files = || {
            let mut all = Vec::new();
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                all.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
            }
            all.sort();
            all.concat()
        };
        converge(1).await;
        converge(2).await;
        converge(2).await;
        for n in [0, 1] {
            assert_eq!(table.addresses(&name(n)), [address[n]].into());
            assert!(in_files().contains(&format!("{} {}\n", address[n], name(n))));
        }

        // One moves to the other's host, and its old host tells so first.
        world.unclaim(1, 1).await;
        world.claim(1, 2).await;
        converge(1).await;
        assert!(table.addresses(&name(0)).is_empty());
        converge(2).await;
        assert_eq!(table.addresses(&name(0)), [address[0]].into());
        assert_eq!(in_files().lines().count(), 2);

        world.release(1).await;
        world.release(2).await;
        converge(2).await;
        assert!(table.addresses(&name(1)).is_empty() && in_files().is_empty());
    });
}

#[test]
fn a_host_whose_names_cannot_be_told_has_not_converged() {
    crate::hosts::run(async {
        let world = World::new();
        let nowhere = Arc::new(HostsFiles::new("/nonexistent/folder"));
        let networks = telling(&world, nowhere);
        world.make(spec(NetworkKind::FlatDhcp, "10.0.0.0/24")).await;
        networks.converge(host(1)).await.unwrap();
        world.ports(1, "demo", &[]).await;
        world.claim(1, 1).await;
        let error = networks.converge(host(1)).await.unwrap_err();
        assert!(
            matches!(&error, NetError::Backend { operation, .. } if operation == "tell its names")
        );
        assert!(!world.backend.net(host(1)).is_empty(), "its network is there all the same");
    });
}
