//! The agent of one host: owns what runs there, and answers for it.
//!
//! It carries out orders, shows that it lives, and compares its host with the records now and
//! then. It decides nothing about other hosts.

mod alone;
mod answers;
mod images;
mod live;
mod suspended;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinSet;

use crate::class::Class;
use crate::clock::ClockExt as _;
use crate::cloud::error::{ApiError, chain};
use crate::cloud::guard::{Panicked, caught};
use crate::cloud::options::CloudOptions;
use crate::cloud::order::{Errand, Order, Question, Report};
use crate::cloud::ports::Ports;
use crate::cloud::register::{HostSpec, register};
use crate::cloud::sweep::Heard;
use crate::domain::{Attachment, HostId, HostName, Instance, InstanceId, Volume};
use crate::plant::{Bug, planted};
use crate::port::{Delivery, Inbox, Topic, VirtDriver, VirtError};
use crate::store::record::{Beat, keys};
use crate::store::{StoreError, StoreExt as _, Txn};

/// Orders that one agent carries out at the same time (Nova's `max_concurrent_builds`).
const ORDERS_MAX: usize = 10;

/// Orders and questions that wait at one agent. More than this mean that the host does not keep
/// up; they are turned away and come again.
const ORDERS_HELD_MAX: usize = 4096;

/// The first pause of a host that is not ready, before it tries again to be. Each further one is
/// twice as long, up to the interval of its sweeps.
const READY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Runs the agent of one host until it is dropped.
#[derive(Debug)]
pub struct Agent {
    host: HostId,
    name: HostName,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Agent {
    /// Registers the host, puts it in order, and begins to serve.
    ///
    /// A host is known by its name: an agent that starts again finds its own record, with what
    /// the operator set there.
    ///
    /// A host that cannot be put in order is not ready: it counts as down, with the reason in
    /// [`HostStatus::unready`](crate::cloud::HostStatus::unready), takes no orders, and tries
    /// again until it can.
    ///
    /// # Errors
    /// [`ApiError::Driver`] when the host does not answer; those of the store.
    pub async fn start(
        ports: Ports,
        options: CloudOptions,
        spec: HostSpec,
        driver: Arc<dyn VirtDriver>,
    ) -> Result<Self, ApiError> {
        options.check()?;
        // A host that hangs must not hold up whoever adds it.
        let facts = ports.clock.within(options.order_limit, driver.facts()).await;
        let facts = facts.unwrap_or_else(|| {
            Err(VirtError::Host { operation: "say what it is", source: "it hangs".into() })
        });
        let facts =
            facts.map_err(|source| ApiError::Driver { host: spec.name.to_string(), source })?;
        let host = register(&ports, &spec, &facts).await?;
        let hand = Arc::new(Hand {
            ports,
            options,
            host,
            driver,
            guests: Mutex::new(BTreeMap::new()),
            places: Semaphore::new(ORDERS_MAX),
            converging: Mutex::default(),
            converges: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        // What changes while everything is looked at is looked at again.
        let heard = hand.driver.telling().map(|telling| telling.changes());
        // Nothing new may come before what should not be here is gone.
        match hand.sweep().await {
            Ok(()) => {
                let (inbox, epoch) = hand.begin().await?;
                tasks.spawn(until(stopped, hand.work(inbox, epoch, heard)));
            }
            Err(reason) => {
                // Nobody relies on this record; it tells an operator what is the matter.
                drop(hand.announce(Some(reason)).await);
                tasks.spawn(until(stopped, async move {
                    let (inbox, epoch) = hand.begin_later().await;
                    hand.work(inbox, epoch, heard).await;
                }));
            }
        }
        Ok(Self { host, name: spec.name, stop, tasks })
    }

    /// The host's id.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The host's name.
    pub fn name(&self) -> &HostName {
        &self.name
    }

    /// Stops serving. Guests go on; they are found again when an agent starts here.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Runs `work` until it ends or `stopped` says so.
pub(crate) async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop) => {}
        () = work => {}
    }
}

/// What the agent's tasks share.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) ports: Ports,
    pub(crate) options: CloudOptions,
    pub(crate) host: HostId,
    pub(crate) driver: Arc<dyn VirtDriver>,
    /// One lock for each guest that an order is being carried out for.
    pub(crate) guests: Mutex<BTreeMap<InstanceId, Arc<Mutex<()>>>>,
    places: Semaphore,
    /// The network is converged by one at a time; what came of the last time is kept here.
    converging: Mutex<Option<Converged>>,
    /// How often the network was to be converged.
    converges: AtomicU64,
}

/// What came of converging the network once.
#[derive(Debug)]
struct Converged {
    /// Whoever asked up to here is answered by it: it began after they had asked.
    asked: u64,
    report: Report,
}

impl Hand {
    /// Begins to listen and to beat.
    async fn begin(&self) -> Result<(Inbox, u64), ApiError> {
        let inbox = self.ports.bus.serve(&Topic::agent(self.host)).await;
        let inbox = inbox.map_err(|source| ApiError::Unsuitable {
            what: format!("agent of host {}", self.host),
            reason: source.to_string(),
        })?;
        Ok((inbox, self.announce(None).await?))
    }

    /// Begins as soon as the host could be put in order.
    async fn begin_later(&self) -> (Inbox, u64) {
        let mut pause = READY_PAUSE_MIN;
        loop {
            self.ports.clock.sleep(pause.min(self.options.sweep_interval)).await;
            pause = pause.saturating_mul(2);
            let reason = match self.sweep().await {
                Ok(()) => match self.begin().await {
                    Ok(begun) => return begun,
                    Err(error) => chain(&error),
                },
                Err(reason) => reason,
            };
            drop(self.announce(Some(reason)).await);
        }
    }

    /// Begins a new epoch of beats, higher than all before. A host that is not ready says why.
    async fn announce(&self, unready: Option<String>) -> Result<u64, StoreError> {
        let known = self.ports.store.read::<Beat>(&keys::beat(self.host)).await?;
        if let (Some(known), true) = (&known, unready.is_some())
            && known.value.unready == unready
        {
            return Ok(known.value.epoch);
        }
        let epoch = known.map_or(1, |beat| beat.value.epoch + 1);
        let mut txn = Txn::new();
        txn.put(&Beat { host: self.host, epoch, count: 0, unready });
        self.ports.store.commit(txn).await?;
        Ok(epoch)
    }

    /// Does all that an agent does, for ever.
    async fn work(self: Arc<Self>, inbox: Inbox, epoch: u64, heard: Heard) {
        tokio::join!(
            Arc::clone(&self).beat(epoch),
            Arc::clone(&self).keep_sweeping(heard),
            self.take_orders(inbox),
        );
    }

    async fn take_orders(self: Arc<Self>, mut inbox: Inbox) {
        let mut orders = JoinSet::new();
        while let Some(delivery) = inbox.next().await {
            while orders.try_join_next().is_some() {}
            if orders.len() < ORDERS_HELD_MAX {
                orders.spawn(Arc::clone(&self).serve(delivery));
            } else if let (Some(reply), Ok(bytes)) =
                (delivery.reply, serde_json::to_vec(&too_many()))
            {
                reply.send(bytes.into());
            }
        }
    }

    async fn beat(self: Arc<Self>, epoch: u64) {
        for count in 1.. {
            self.ports.clock.sleep(self.options.beat_interval).await;
            // A host that does not answer its agent is not alive, whatever the agent is.
            let Ok(Ok(_)) = self.in_time(self.driver.facts()).await else { continue };
            let mut txn = Txn::new();
            txn.put(&Beat { host: self.host, epoch, count, unready: None });
            // A beat that is lost is followed by another.
            drop(self.ports.store.commit(txn).await);
        }
    }

    async fn serve(self: Arc<Self>, delivery: Delivery) {
        if let Ok(question) = serde_json::from_slice::<Question>(&delivery.payload) {
            if let (Some(reply), Some(bytes)) = (delivery.reply, self.answer(question).await) {
                reply.send(bytes.into());
            }
            return;
        }
        let Ok(_place) = self.places.acquire().await else { return };
        let report = match serde_json::from_slice::<Errand>(&delivery.payload) {
            Ok(errand) => self.carry_out(errand.order, errand.generation).await,
            Err(error) => Report::NotDone { reason: format!("no order: {error}"), retry: false },
        };
        if let (Some(reply), Ok(bytes)) = (delivery.reply, serde_json::to_vec(&report)) {
            reply.send(bytes.into());
        }
    }

    /// Carries out one order: do, then look whether it was done. Orders for one guest wait for
    /// each other, and are checked for being out of date when their turn has come.
    async fn carry_out(&self, order: Order, generation: u64) -> Report {
        let Some(instance) = order.instance() else {
            return self.converge().await;
        };
        let work = async {
            match self.outdated(instance, &order, generation).await {
                Some(refusal) => refusal,
                None => match order {
                    Order::Snapshot { instance, image, format } => {
                        self.snapshot(instance, image, format).await
                    }
                    Order::Rescue { image, .. } => self.rescue(instance, Some(&image)).await,
                    Order::Unrescue(_) => self.rescue(instance, None).await,
                    order => self.on_guest(instance, &order).await,
                },
            }
        };
        self.alone(instance, work).await
    }

    /// Makes the host's network what the records say. Two that did it at the same time might
    /// apply the older plan last, so they take turns; those who waited share the answer of the
    /// first one that began after they had asked.
    pub(crate) async fn converge(&self) -> Report {
        let ticket = self.converges.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.converging.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.asked >= ticket) {
            return last.report.clone();
        }
        let asked = self.converges.load(Ordering::SeqCst);
        let report = match self.in_time(self.ports.network.converge(self.host)).await {
            Ok(Ok(())) => Report::Done { guest: None },
            Ok(Err(error)) => {
                let retry = error.class() != Class::Permanent;
                Report::NotDone { reason: chain(&error), retry }
            }
            Err(late) => late,
        };
        *last = Some(Converged { asked, report: report.clone() });
        report
    }

    /// Why an order must not be carried out any more, if it must not: the server has been
    /// through a later operation, or does not belong on this host.
    async fn outdated(&self, id: InstanceId, order: &Order, generation: u64) -> Option<Report> {
        let refuse = |reason: &str, retry: bool| {
            Some(Report::NotDone { reason: format!("out of date: {reason}"), retry })
        };
        match self.ports.store.read::<Instance>(&keys::instance(id)).await {
            Err(error) => Some(Report::Unknown { reason: chain(&error) }),
            _ if planted(Bug::AnyGeneration) => None,
            Ok(Some(record)) if record.value.generation > generation => {
                // Not the end of it: looking again, the operation sees that it was taken over.
                refuse("the server has been through a later operation", true)
            }
            Ok(Some(record)) if record.value.host == Some(self.host) => None,
            // A guest that moves may be worked on at both ends, and run at one.
            Ok(Some(record)) if self.is_end(&record.value) && !order.runs() => None,
            // What does not belong here may be taken away, and nothing else.
            _ if matches!(order, Order::Remove(_) | Order::Unplug { .. }) => None,
            _ => refuse("the server does not belong on this host", false),
        }
    }

    /// Whether this host is one of the two ends of a server's move.
    pub(crate) fn is_end(&self, instance: &Instance) -> bool {
        instance.migration.as_ref().is_some_and(|moving| moving.names(self.host))
    }

    /// Asks the driver for the parcel; it changes nothing, so that there is nothing to look at.
    async fn pack(&self, instance: InstanceId) -> Report {
        let Some(moving) = self.driver.moving() else {
            let reason = chain(&unable("pack a guest"));
            return Report::NotDone { reason, retry: false };
        };
        match self.in_time(moving.pack(instance)).await {
            Ok(Ok(parcel)) => Report::Packed(Box::new(parcel)),
            Ok(Err(error)) => {
                Report::NotDone { reason: chain(&error), retry: error.class() == Class::Retry }
            }
            Err(late) => late,
        }
    }

    pub(crate) async fn on_guest(&self, instance: InstanceId, order: &Order) -> Report {
        if let Order::Pack(instance) = order {
            return self.pack(*instance).await;
        }
        if let Order::Live(order) = order {
            return self.on_live(order).await;
        }
        let done = match self.in_time(self.act(order)).await {
            Ok(done) => done,
            Err(late) => return late,
        };
        // An error may hide an effect, and a success may hide the lack of one: look.
        let guest = match self.in_time(self.driver.guest(instance)).await {
            Ok(Ok(guest)) => guest,
            Ok(Err(error)) => return Report::Unknown { reason: chain(&error) },
            Err(late) => return late,
        };
        match (order.reached(guest.as_ref()), done) {
            (true, _) => Report::Done { guest },
            (false, Err(error)) => {
                Report::NotDone { reason: chain(&error), retry: error.class() == Class::Retry }
            }
            (false, Ok(())) => Report::NotDone {
                reason: format!("{} said yes and did not", self.driver),
                retry: true,
            },
        }
    }

    /// Waits for the driver, but not longer than an order may take.
    pub(crate) async fn in_time<T: Send>(
        &self,
        work: impl Future<Output = T> + Send,
    ) -> Result<T, Report> {
        match self.ports.clock.within(self.options.order_limit, caught(work)).await {
            Some(Ok(answer)) => Ok(answer),
            // It may have been done before the panic.
            Some(Err(Panicked(words))) => {
                Err(Report::Unknown { reason: format!("{} panicked: {words}", self.driver) })
            }
            None => Err(Report::Unknown { reason: format!("{} hangs", self.driver) }),
        }
    }

    async fn act(&self, order: &Order) -> Result<(), VirtError> {
        let driver = &self.driver;
        match order {
            Order::Create(spec) => driver.create(spec, &*self.ports.images).await,
            Order::Remove(instance) => driver.remove(*instance).await,
            Order::Start(instance) => {
                // After the host was down its network has to be there before the guest is.
                drop(self.converge().await);
                self.take_out(*instance).await?;
                driver.start(*instance).await
            }
            Order::Stop(instance) => driver.stop(*instance).await,
            Order::Reboot { instance, how, boot } => {
                self.forget_memory(*instance, *boot).await?;
                self.take_out(*instance).await?;
                driver.reboot(*instance, *how, *boot).await
            }
            Order::Pause(instance) => match driver.pausing() {
                Some(pausing) => pausing.pause(*instance).await,
                None => Err(unable("pause a guest")),
            },
            Order::Unpause(instance) => match driver.pausing() {
                Some(pausing) => pausing.unpause(*instance).await,
                None => Err(unable("unpause a guest")),
            },
            Order::Suspend(instance) => match driver.suspending() {
                Some(suspending) => suspending.suspend(*instance).await,
                None => Err(unable("suspend a guest")),
            },
            Order::Resume(instance) => self.resume(*instance).await,
            Order::Plug { instance, link } => match driver.volumes() {
                Some(volumes) => volumes.attach(*instance, link).await,
                None => Err(unable("attach a volume")),
            },
            Order::Unplug { instance, volume } => match driver.volumes() {
                Some(volumes) => volumes.detach(*instance, *volume).await,
                None => Ok(()),
            },
            Order::Unpack { spec, parcel } => match driver.moving() {
                Some(moving) => moving.unpack(spec, parcel, &*self.ports.images).await,
                None => Err(unable("unpack a guest")),
            },
            Order::Pack(_)
            | Order::Live(_)
            | Order::Snapshot { .. }
            | Order::Rescue { .. }
            | Order::Unrescue(_)
            | Order::Converge => Ok(()),
        }
    }

    /// Takes out of a guest the volumes that the records give to somebody else or to nobody: while
    /// the host was declared down, what it held may have been given away.
    pub(super) async fn take_out(&self, id: InstanceId) -> Result<(), VirtError> {
        let (Some(guest), Some(driver)) = (self.driver.guest(id).await?, self.driver.volumes())
        else {
            return Ok(());
        };
        for volume in guest.volumes {
            let record = self.ports.store.read::<Volume>(&keys::volume(volume)).await;
            let record = record.map_err(|source| VirtError::Host {
                operation: "compare a guest's volumes with the records",
                source: source.into(),
            })?;
            let mine = Attachment { instance: id, host: self.host };
            if record.is_none_or(|record| record.value.attachment != Some(mine)) {
                driver.detach(id, volume).await?;
            }
        }
        Ok(())
    }
}

pub(super) fn unable(operation: &'static str) -> VirtError {
    VirtError::Host { operation, source: "this host cannot".into() }
}

fn too_many() -> Report {
    let reason = format!("{ORDERS_HELD_MAX} orders are waiting at this host");
    Report::NotDone { reason, retry: true }
}
