//! All parts of a cloud in one process.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::class::Class;
use crate::cloud::agent::Agent;
use crate::cloud::api::{Admin, Door, Project};
use crate::cloud::conductor::Conductor;
use crate::cloud::error::{ApiError, Overload};
use crate::cloud::options::CloudOptions;
use crate::cloud::ports::Ports;
use crate::cloud::register::HostSpec;
use crate::cloud::view::View;
use crate::domain::{HostId, HostName, ProjectId};
use crate::port::VirtDriver;
use crate::seed::Seed;
use crate::store::record::{CloudMeta, keys};
use crate::store::{StoreExt as _, Txn};

/// A cloud: one conductor, an agent for each host that is added, and the way in.
///
/// Dropping it stops everything where it is. What was accepted is in the store and goes on when a
/// cloud is started on the same store again.
#[derive(Debug)]
pub struct Cloud {
    ports: Ports,
    options: CloudOptions,
    door: Arc<Door>,
    conductor: Conductor,
    agents: Vec<Agent>,
}

/// Openings of one store at the same moment that conflict, before it is given up.
const OPEN_ATTEMPTS_MAX: u32 = 32;

impl Cloud {
    /// Starts on these ports, and goes on with whatever is in the store.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] names an option that is out of range; those of the store and the
    /// bus.
    pub async fn start(mut ports: Ports, options: CloudOptions) -> Result<Self, ApiError> {
        options.check()?;
        ports.seed = opening(&ports).await?;
        let view =
            Arc::new(Mutex::new(View::open(Arc::clone(&ports.store), ports.clock.now()).await?));
        let conductor =
            Conductor::with_view(ports.clone(), options.clone(), Arc::clone(&view)).await?;
        let door = Arc::new(Door::new(ports.clone(), options.clone(), view));
        Ok(Self { ports, options, door, conductor, agents: Vec::new() })
    }

    /// The way in alone, for a process that works on nothing: what is accepted through it is done
    /// by conductors elsewhere.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] names an option that is out of range; those of the store.
    pub async fn handles(mut ports: Ports, options: CloudOptions) -> Result<Admin, ApiError> {
        options.check()?;
        ports.seed = opening(&ports).await?;
        let view =
            Arc::new(Mutex::new(View::open(Arc::clone(&ports.store), ports.clock.now()).await?));
        Ok(Admin { door: Arc::new(Door::new(ports, options, view)) })
    }

    /// Adds a host: starts its agent, which registers it and puts it in order. A host that was
    /// added before, by name, is started again.
    ///
    /// # Errors
    /// [`ApiError::Driver`] when the host does not answer, [`ApiError::Invalid`] when it would
    /// keep more for itself than it has.
    pub async fn add_host(
        &mut self,
        spec: HostSpec,
        driver: impl VirtDriver,
    ) -> Result<HostId, ApiError> {
        self.stop_host(&spec.name).await;
        let (ports, options) = (self.ports.clone(), self.options.clone());
        let agent = Agent::start(ports, options, spec, Arc::new(driver)).await?;
        let host = agent.host();
        self.agents.push(agent);
        Ok(host)
    }

    /// Stops the agent of a host; its guests go on, and after a while it counts as down. False
    /// when there is no such agent here.
    pub async fn stop_host(&mut self, name: &HostName) -> bool {
        match self.agents.iter().position(|agent| agent.name() == name) {
            Some(at) => {
                self.agents.remove(at).stop().await;
                true
            }
            None => false,
        }
    }

    /// The operator's way in.
    pub fn admin(&self) -> Admin {
        Admin { door: Arc::clone(&self.door) }
    }

    /// A project's way in.
    pub fn project(&self, id: ProjectId) -> Project {
        Project { door: Arc::clone(&self.door), id }
    }

    /// The parts it is made of.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Stops all parts and waits until they have stopped.
    pub async fn stop(self) {
        for agent in self.agents {
            agent.stop().await;
        }
        self.conductor.stop().await;
    }
}

/// Counts this opening of the store, and gives it a seed of its own: two runs on the same store
/// with the same seed never draw the same ids.
async fn opening(ports: &Ports) -> Result<Seed, ApiError> {
    for _ in 0..OPEN_ATTEMPTS_MAX {
        let known = ports.store.read::<CloudMeta>(&keys::cloud_meta()).await?;
        let openings = known.as_ref().map_or(0, |meta| meta.value.openings) + 1;
        let mut txn = Txn::new();
        txn.touch(known.as_ref(), &CloudMeta { openings });
        match ports.store.commit(txn).await {
            Ok(_) => return Ok(ports.seed.child_of("opening", openings.into())),
            Err(error) if error.class() == Class::Conflict => {}
            Err(error) => return Err(error.into()),
        }
    }
    let key = keys::cloud_meta().to_string();
    Err(Overload::Conflicts { attempts: OPEN_ATTEMPTS_MAX, key }.into())
}
