//! Somebody who asks: again after an answer was lost, and again after dying in the middle.

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::class::Class;
use crate::clock::ClockExt as _;
use crate::cloud::{Accepted, Admin, ApiError, Cloud, Ports};
use crate::domain::{HostId, ImageId, Network, OpId, RequestId, SecurityGroupId, ServerGroupId};
use crate::seed::Chance;
use crate::store::record::keys;
use crate::testing::audit::{Acknowledged, Promises};
use crate::testing::fate::Fault;
use crate::testing::process::Process;
use crate::testing::world::World;

/// An answer that may speak of an operation.
pub(crate) trait Answer: Debug + Clone + PartialEq {
    fn operation(&self) -> Option<OpId> {
        None
    }
}

impl<T: Debug + Clone + PartialEq> Answer for Accepted<T> {
    fn operation(&self) -> Option<OpId> {
        Some(self.operation)
    }
}

impl Answer for () {}
impl Answer for IpAddr {}
impl Answer for ServerGroupId {}
impl Answer for SecurityGroupId {}
impl Answer for ImageId {}
impl Answer for HostId {}
impl Answer for Vec<Network> {}

/// A process that asks the cloud for things.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) chance: Chance,
    process: Arc<Process>,
    ports: Ports,
    promises: Arc<Promises>,
    scope: String,
    handle: Option<Admin>,
    asked: u64,
}

/// How often a request is repeated before its user gives up; then nobody knows what became of it.
const ASKED_MAX: u32 = 60;
/// How long a user waits before asking again.
const PAUSE: Duration = Duration::from_millis(300);
/// How often an answer is asked for once more, to see whether it is the same.
const AGAIN_SHARE: f64 = 0.15;

impl Client {
    /// A client whose request ids are of `scope`.
    pub(crate) fn new(
        world: &Arc<World>,
        name: &str,
        scope: &str,
        promises: &Arc<Promises>,
    ) -> Self {
        let (process, ports) = world.process(name);
        Self {
            world: Arc::clone(world),
            chance: world.seed.child("client").child(name).chance(),
            process,
            ports,
            promises: Arc::clone(promises),
            scope: scope.to_owned(),
            handle: None,
            asked: 0,
        }
    }

    /// The way in. A client that has just been started again has to open it anew.
    pub(crate) async fn handle(&mut self) -> Admin {
        loop {
            if let Some(handle) = &self.handle {
                return handle.clone();
            }
            let options = self.world.options.clone();
            match Cloud::handles(self.ports.clone(), options).await {
                Ok(handle) => self.handle = Some(handle),
                Err(_) => self.process.sleep(PAUSE).await,
            }
        }
    }

    /// Asks until there is an answer. None when there is none, or the answer is no.
    pub(crate) async fn ask<T: Answer, F: Future<Output = Result<T, ApiError>>>(
        &mut self,
        call: impl Fn(Admin, RequestId) -> F,
    ) -> Option<T> {
        self.asked += 1;
        let id = format!("{}-{}", self.process.name(), self.asked);
        let id: RequestId = id.parse().ok()?;
        for _ in 0..ASKED_MAX {
            let handle = self.handle().await;
            let answer = match self.world.fate.strikes(Fault::KillClient) {
                Some(mut strike) => {
                    let alive = strike.time(Duration::ZERO, Duration::from_millis(25));
                    let death = self.world.clock.sleep(alive);
                    tokio::select! {
                        biased;
                        answer = call(handle, id.clone()) => Some(answer),
                        () = death => None,
                    }
                }
                None => Some(call(handle, id.clone()).await),
            };
            match answer {
                Some(Ok(answer)) => {
                    self.process.note(format_args!("{id} was answered: {answer:?}"));
                    let request = keys::request(&self.scope, &id);
                    let operation = answer.operation();
                    self.promises.keep(Acknowledged { request, operation });
                    self.ask_again(&call, &id, &answer).await;
                    return Some(answer);
                }
                Some(Err(error)) if error.class() != Class::Retry => {
                    self.process.note(format_args!("{id} was refused: {error}"));
                    return None;
                }
                Some(Err(error)) => {
                    self.process.note(format_args!("{id} is not answered: {error}"));
                    self.process.sleep(PAUSE).await;
                }
                None => {
                    self.process.note("dies in the middle of a call");
                    self.handle = None;
                }
            }
        }
        None
    }

    /// The same request has the same answer for ever.
    async fn ask_again<T: Answer, F: Future<Output = Result<T, ApiError>>>(
        &mut self,
        call: &impl Fn(Admin, RequestId) -> F,
        id: &RequestId,
        known: &T,
    ) {
        if !self.chance.happens(AGAIN_SHARE) {
            return;
        }
        let handle = self.handle().await;
        let wrong = match call(handle, id.clone()).await {
            Ok(answer) if answer == *known => return,
            Ok(answer) => format!("{id} was answered {known:?}, and then {answer:?}"),
            Err(error) if error.class() == Class::Retry => return,
            Err(error) => format!("{id} was answered {known:?}, and then refused: {error}"),
        };
        self.promises.complain("a repeated request has the same answer", wrong);
    }

    /// Waits for an operation, as long as its patience lasts.
    pub(crate) async fn wait(&mut self, operation: OpId, patience: Duration) {
        let handle = self.handle().await;
        let project = self.scope.parse().map(|id| handle.project(id));
        if let Ok(project) = project {
            drop(self.process.within(patience, project.wait(operation)).await);
        }
    }
}
