//! Asking for too much, and following the advice.

use nova_core::cloud::FlavorSpec;
use nova_core::domain::{Change, MiB, Refusal, ResourceKind, Vcpus, VmState};

use super::house::{Doing as _, House};
use super::plan::{self, FITTING, TENANTS, WHALE, Want, ZONES};
use super::show::{count, memory, table};
use super::{Failure, summary::Refused};

impl House<'_> {
    /// Asks for a server that fits nowhere, shows why, and asks for what would fit.
    pub(super) async fn ask_for_too_much(&mut self) -> Result<(), Failure> {
        let whale = Want {
            project: TENANTS[0].name,
            name: "whale-1".to_owned(),
            flavor: WHALE,
            networks: vec![plan::CAMPUS.to_owned()],
            zone: Some(ZONES[1]),
            group: None,
            apart_from: None,
            beside: None,
        };
        self.screen.section(
            "A server that cannot fit",
            "It is accepted, finds no host, and says why: nothing is left of it but the reason.",
        );
        let server = self.boot_one(&whale).await?;
        let fault = server.instance.fault.clone();
        let refusal = fault.as_ref().and_then(|fault| fault.refusal.clone());
        let is_refused = server.instance.state == VmState::Error && refusal.is_some();
        self.check("a server that fits nowhere is refused with its reasons", is_refused);
        let (Some(fault), Some(refusal)) = (fault, refusal) else { return Ok(()) };
        let flavor = &server.instance.flavor;
        self.screen.say(&format!(
            "{} is in {}: {}, {} and {} of disk on ssd, in zone {}.",
            whale.path(),
            server.instance.state,
            flavor.vcpus(),
            memory(flavor.memory()),
            flavor.root_disk(),
            ZONES[1],
        ));
        self.show_refusal(&refusal);
        let mut refused = Refused {
            server: whale.path(),
            message: fault.message,
            advice: Vec::new(),
            followed: None,
            refusal,
        };
        if let Some(changes) = refused.refusal.smallest_change.clone() {
            refused.advice = changes.iter().map(ToString::to_string).collect();
            self.follow(&whale, &changes, &mut refused).await?;
        }
        self.check("the smallest change that was advised fits", refused.followed.is_some());
        self.summary.refusal = Some(refused);
        Ok(())
    }

    fn show_refusal(&mut self, refusal: &Refusal) {
        let mut rows = table(&["Filter", ">Hosts in", ">Hosts out", "Refused because"]);
        for stage in &refusal.funnel.stages {
            let reasons = stage.reasons.iter().map(|(reason, hosts)| format!("{hosts}x {reason}"));
            rows.add_row([
                stage.filter.clone(),
                stage.hosts_in.to_string(),
                stage.hosts_out.to_string(),
                reasons.collect::<Vec<_>>().join(", "),
            ]);
        }
        self.screen.table(&rows);
        let mut rows = table(&["Nearest host", "Refused by", "Lacks"]);
        for miss in &refusal.nearest {
            let by = miss.refused_by.iter().map(|(filter, reason)| format!("{filter}: {reason}"));
            let lacks = miss.short_of.iter().map(|(kind, amount)| shortage(*kind, *amount));
            rows.add_row([
                miss.name.to_string(),
                by.collect::<Vec<_>>().join(", "),
                lacks.collect::<Vec<_>>().join(", "),
            ]);
        }
        self.screen.table(&rows);
        let changes = refusal.smallest_change.iter().flatten();
        let changes: Vec<String> = changes.map(ToString::to_string).collect();
        self.screen.say(&match changes.as_slice() {
            [] => "No small change would help.".to_owned(),
            changes => format!("The smallest change that fits: {}.", changes.join(", and ")),
        });
    }

    /// Asks again, changed as advised.
    async fn follow(
        &mut self,
        whale: &Want,
        changes: &[Change],
        refused: &mut Refused,
    ) -> Result<(), Failure> {
        let specs = plan::flavors()?;
        let Some(whole) = specs.into_iter().find(|spec| spec.name.as_str() == WHALE) else {
            return Ok(());
        };
        let mut flavor: FlavorSpec = whole;
        flavor.name = FITTING.parse()?;
        let mut want = Want { name: "whale-2".to_owned(), flavor: FITTING, ..whale.clone() };
        for change in changes {
            match change {
                Change::Shrink { resource: ResourceKind::Memory, to, .. } => {
                    flavor.memory = MiB(*to);
                }
                Change::Shrink { resource: ResourceKind::Vcpus, to, .. } => {
                    flavor.vcpus = Vcpus(u32::try_from(*to).unwrap_or(u32::MAX));
                }
                Change::Shrink { resource: ResourceKind::Disk, to, .. } => {
                    flavor.root_disk = nova_core::domain::GiB(*to);
                }
                Change::AnyZone => want.zone = None,
                Change::WithoutExtraSpecs => flavor.extra_specs.clear(),
                // The whale has no other wishes that could be left out.
                _ => return Ok(()),
            }
        }
        let request = self.request(format_args!("flavor-{FITTING}"))?;
        let made = self.admin.create_flavor(request, &flavor).await;
        made.doing(|| format!("make flavor {FITTING}"))?;
        let server = self.boot_one(&want).await?;
        if server.instance.state == VmState::Active {
            let host = server.host.as_ref().map_or_else(String::new, ToString::to_string);
            self.screen.say(&format!(
                "Asked for so, {} is active on {host} with {}.",
                want.path(),
                memory(flavor.memory)
            ));
            refused.followed = server.host;
        }
        Ok(())
    }
}

fn shortage(kind: ResourceKind, amount: u64) -> String {
    match kind {
        ResourceKind::Vcpus => count(usize::try_from(amount).unwrap_or(usize::MAX), "vCPU"),
        ResourceKind::Memory => format!("{} of memory", memory(MiB(amount))),
        _ => format!("{amount} GiB of disk"),
    }
}
