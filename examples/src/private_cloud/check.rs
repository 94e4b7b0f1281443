//! What is claimed and has to be so.

use std::collections::BTreeSet;

use nova_core::cloud::Server;
use nova_core::domain::{Resources, VmState};
use nova_core::port::{ImageStore as _, VolumeDriver as _};

use super::house::{Doing as _, House};
use super::plan::{self, DATABASE, SHAPES, VOLUMES};
use super::show::table;
use super::summary::{CensusRow, Check};
use super::{Ending, Failure, Stage};

impl House<'_> {
    /// Notes a claim and whether it holds.
    pub(super) fn check(&mut self, claim: &str, holds: bool) {
        self.summary.checks.push(Check { claim: claim.to_owned(), holds });
    }

    /// Checks a cloud in which everything is up.
    pub(super) async fn review(&mut self) -> Result<(), Failure> {
        let servers = self.servers().await?;
        let server = |path: &str| servers.get(path);
        let wanted = plan::servers();
        let alive = |server: &&Server| server.instance.state != VmState::Error;
        let there = wanted.iter().filter_map(|want| server(&want.path())).filter(alive).count();
        self.check("all forty servers are there", there == 40);

        let hosts_of = |prefix: &str| {
            let members = servers.iter().filter(|(path, _)| path.starts_with(prefix));
            members.map(|(_, server)| server.instance.host).collect::<Vec<_>>()
        };
        let distinct = |hosts: &[_]| hosts.iter().collect::<BTreeSet<_>>().len();
        let web = hosts_of("shop/web-");
        self.check("servers that must be apart are", distinct(&web) == web.len());
        self.check("servers that must be together are", distinct(&hosts_of("media/encode-")) == 1);
        let host = |path: &str| server(path).and_then(|server| server.instance.host);
        let hints = host("shop/db-1") != host("shop/db-2")
            && host("shop/cache-1") == host("shop/db-1")
            && host("shop/cache-2") == host("shop/db-2");
        self.check("scheduler hints hold", hints);
        let on_ssd = |server: &Server| {
            let name = server.host.as_ref().map_or("", |name| name.as_str());
            SHAPES.iter().any(|shape| shape.disk == "ssd" && name.starts_with(shape.name))
        };
        let databases: Vec<_> = servers
            .values()
            .filter(|server| server.instance.flavor.name().as_str() == DATABASE)
            .collect();
        let right = databases.len() == 2 && databases.iter().all(|server| on_ssd(server));
        self.check("databases are in the aggregate that has solid-state disks", right);

        let hosts = self.hosts().await?;
        let fits = hosts.iter().all(|s| s.host.inventory.exceeded(&s.used).is_none());
        self.check("no host is promised beyond its capacity", fits);
        let placed = servers.values().filter(|server| server.instance.host.is_some()).count();
        self.check("every guest has a server, and every server a guest", self.guests() == placed);
        let attached: usize = servers.values().map(|server| server.volumes.len()).sum();
        self.check("every volume is with its server", attached == VOLUMES.len());
        self.progress.most = self.census().await?;
        self.summary.census.most.clone_from(&self.progress.most);
        self.list_servers().await
    }

    /// Checks what a run leaves behind.
    pub(super) async fn check_the_end(&mut self, ending: Ending) -> Result<(), Failure> {
        let over = self.next_stage().is_none();
        let kept = ending == Ending::Keep && !over;
        if kept && !self.summary.stages.contains(&Stage::Review) {
            self.review().await?;
        }
        if over {
            self.check_that_nothing_is_left().await?;
        }
        self.summary.ok = (over || kept) && self.summary.checks.iter().all(|check| check.holds);
        let mut rows = table(&["Claim", "Holds"]);
        for check in &self.summary.checks {
            rows.add_row([check.claim.as_str(), if check.holds { "yes" } else { "NO" }]);
        }
        let sentence = match (kept, self.summary.ok) {
            (_, false) => "Not everything is as it should be.",
            (true, _) => "The cloud is kept; its guests run on. The next run deletes it.",
            (false, _) => "Everything is as it was before.",
        };
        self.screen.section("Checks", sentence);
        self.screen.table(&rows);
        Ok(())
    }

    async fn check_that_nothing_is_left(&mut self) -> Result<(), Failure> {
        let census = self.admin.census().await.doing(|| "count the records")?;
        let after = self.census().await?;
        self.screen.section(
            "Census",
            "Records by table. The hosts stay registered; what rests is counted apart.",
        );
        let CensusRow { before, most, .. } = &self.summary.census;
        let mut rows = table(&["Table", ">Before", ">At most", ">After", ">Resting"]);
        for (name, now) in &after {
            let number = |counted: &std::collections::BTreeMap<String, usize>| {
                counted.get(name).map_or_else(|| "-".to_owned(), ToString::to_string)
            };
            let resting = census.resting.get(name.as_str());
            let resting = resting.map_or_else(String::new, ToString::to_string);
            rows.add_row([name.clone(), number(before), number(most), now.to_string(), resting]);
        }
        self.screen.table(&rows);

        self.check("every table is as before", after == self.summary.census.before);
        let unused = census.used.values().all(|used| *used == Resources::ZERO);
        self.check("nothing is claimed on any host", unused);
        self.check("no guest is on any host", self.guests() == 0);
        self.check("no host has a network left", self.recorder.hosts().is_empty());
        let ports = self.cloud.ports();
        let images = ports.images.list().await?;
        let volumes = ports.volumes.list().await?;
        self.check("no image and no volume takes space", images.is_empty() && volumes.is_empty());
        let resting = census.resting.into_iter().map(|(table, n)| (table.to_owned(), n));
        self.summary.census.resting = resting.collect();
        self.summary.census.after = Some(after);
        Ok(())
    }
}
