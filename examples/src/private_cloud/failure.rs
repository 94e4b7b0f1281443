//! A host dies, and an address moves.

use super::house::{Doing as _, House, pending, took};
use super::plan::{SURVIVOR, VICTIM};
use super::show::{count, table, time};
use super::{Failure, summary::Died};

impl House<'_> {
    /// Takes the power from the host of one server, and moves its floating IP to another.
    pub(super) async fn lose_a_host(&mut self) -> Result<(), Failure> {
        let victim = self.server(VICTIM.0, VICTIM.1).await?;
        let missing = |what: String| Failure::Missing { what };
        let path = format!("{}/{}", VICTIM.0, VICTIM.1);
        let (Some(host), Some(name)) = (victim.instance.host, victim.host.clone()) else {
            return Err(missing(format!("host of {path}")));
        };
        self.screen.section(
            "A host dies",
            &format!("{name} loses its power, and with it its agent, its guests and its network."),
        );
        if let Some(machine) = self.machines.get(&name) {
            machine.driver.lose_power()?;
        }
        self.cloud.stop_host(&name).await;
        self.recorder.restart(host);
        let lost: Vec<String> = self
            .servers()
            .await?
            .into_iter()
            .filter(|(_, server)| server.instance.host == Some(host))
            .map(|(path, _)| path)
            .collect();
        self.screen.say(&format!("{} went with it: {}.", count(lost.len(), "server"), {
            lost.join(", ")
        }));
        let request = self.request(format_args!("force-down-{name}"))?;
        let forced = self.admin.force_down(request, host, "no power in the rack").await;
        forced.doing(|| format!("declare {name} down"))?;
        self.screen
            .say("The operator declares it down: from now on what it held may be given to others.");

        // When this was interrupted, the address may lead to the survivor already.
        let survivor = self.server(SURVIVOR.0, SURVIVOR.1).await?;
        let address = victim.floating_ips.first().or(survivor.floating_ips.first()).copied();
        let address = address.ok_or_else(|| missing(format!("floating IP of {path}")))?;
        let project = self.project(SURVIVOR.0)?;
        let to = format!("{}/{}", SURVIVOR.0, SURVIVOR.1);
        let request = self.request(format_args!("move-{address}"))?;
        let accepted = project.associate_floating_ip(request, address, survivor.instance.id).await;
        let moved = pending(format!("move {address} to {to}"), &project, accepted)?;
        let ended = self.wait_for("floating IP", vec![moved]).await?;

        let (victim, survivor) =
            (self.server(VICTIM.0, VICTIM.1).await?, self.server(SURVIVOR.0, SURVIVOR.1).await?);
        let mut rows = table(&["Floating IP", "From", "On", "To", "On", ">Took"]);
        let on = |server: &nova_core::cloud::Server| {
            server.host.as_ref().map_or_else(String::new, ToString::to_string)
        };
        rows.add_row([
            address.to_string(),
            path.clone(),
            format!("{} (down)", on(&victim)),
            to.clone(),
            on(&survivor),
            ended.first().map_or_else(String::new, |(_, operation)| time(took(operation))),
        ]);
        self.screen.table(&rows);
        self.show_hosts().await?;

        let leads = survivor.floating_ips == [address] && victim.floating_ips.is_empty();
        self.check("the floating IP leads to the survivor and nowhere else", leads);
        let answers = |id| self.recorder.net(id).to_string().contains(&address.to_string());
        let answering: Vec<_> =
            self.recorder.hosts().into_iter().filter(|id| answers(*id)).collect();
        let right = answering.as_slice() == survivor.instance.host.as_slice();
        self.check("the survivor's host, and no other, answers for the floating IP", right);
        self.summary.failure = Some(Died { host: name, servers: lost, address, from: path, to });
        Ok(())
    }
}
