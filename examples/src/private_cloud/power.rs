//! Stop, start, reboot, pause.

use nova_core::cloud::{Accepted, ApiError, Project};
use nova_core::domain::{InstanceId, Reboot, RequestId};

use super::Failure;
use super::house::{House, pending, took};
use super::show::{table, time};

/// What is done to a server.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Stop,
    Start,
    SoftReboot,
    HardReboot,
    Pause,
    Unpause,
}

/// Done in this order; what is done to different servers in one line is done at the same time.
const DEEDS: [&[(Deed, &str, &str)]; 2] = [
    &[
        (Deed::Stop, "lab", "node-7"),
        (Deed::Stop, "lab", "node-8"),
        (Deed::SoftReboot, "shop", "web-5"),
        (Deed::HardReboot, "shop", "app-1"),
        (Deed::Pause, "media", "encode-1"),
        (Deed::Pause, "media", "encode-2"),
    ],
    &[(Deed::Start, "lab", "node-8"), (Deed::Unpause, "media", "encode-2")],
];

impl Deed {
    fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::SoftReboot => "reboot",
            Self::HardReboot => "hard-reboot",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
        }
    }

    async fn ask(
        self,
        project: &Project,
        request: RequestId,
        id: InstanceId,
    ) -> Result<Accepted<InstanceId>, ApiError> {
        match self {
            Self::Stop => project.stop(request, id).await,
            Self::Start => project.start(request, id).await,
            Self::SoftReboot => project.reboot(request, id, Reboot::Soft).await,
            Self::HardReboot => project.reboot(request, id, Reboot::Hard).await,
            Self::Pause => project.pause(request, id).await,
            Self::Unpause => project.unpause(request, id).await,
        }
    }
}

impl House<'_> {
    /// Changes the power state of some servers.
    pub(super) async fn change_power(&mut self) -> Result<(), Failure> {
        self.screen.section("Power", "Some servers are stopped, started, rebooted and paused.");
        let mut rows = table(&["Asked for", "Server", "State", "Power", ">Boots", ">Took"]);
        for deeds in DEEDS {
            let mut asked = Vec::new();
            for (deed, project, name) in deeds {
                let server = self.server(project, name).await?;
                let project = self.project(project)?;
                let request = self.request(format_args!("{}-{name}", deed.word()))?;
                let accepted = deed.ask(&project, request, server.instance.id).await;
                asked.push(pending(format!("{} {name}", deed.word()), &project, accepted)?);
            }
            let ended = self.wait_for("servers", asked).await?;
            for ((deed, project, name), (_, operation)) in deeds.iter().zip(&ended) {
                let instance = self.server(project, name).await?.instance;
                rows.add_row([
                    deed.word().to_owned(),
                    format!("{project}/{name}"),
                    instance.state.to_string(),
                    instance.power.map_or_else(String::new, |power| power.to_string()),
                    instance.boots.to_string(),
                    time(took(operation)),
                ]);
            }
        }
        self.screen.table(&rows);
        Ok(())
    }
}
