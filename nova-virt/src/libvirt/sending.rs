//! Guests that are sent elsewhere while they run: a task of the host's for each.
//!
//! Whoever sends joins the task that is there. It ends when the guest was copied and is frozen, or
//! when it goes on here because it could not be sent; what is kept of it is in the guest's record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nova_core::clock::ClockExt as _;
use nova_core::domain::{InstanceId, PowerState};
use nova_core::port::{Invitation, Parcel, Transfer, VirtError};
use tokio::sync::{Semaphore, watch};

use super::daemon::{Copied, DomainState};
use super::host::{Inner, LibvirtHost, domain_of, host, power};
use super::incoming::{Room, Said, why};
use super::offer;
use super::record::{Leaving, Record};
use super::seal::{Secret, from_hex, to_hex};
use crate::files::FORMAT;

/// Guests that are sent at a time; more wait. Each keeps its daemon busy, which answers few calls
/// of one connection at a time.
const AT_A_TIME: usize = 2;

/// How long whoever sends waits for the end of it.
const WAIT: Duration = Duration::from_secs(30);

/// How often it is tried again to end what is being sent.
const ABORT_AGAIN: Duration = Duration::from_millis(100);

/// Where a guest is expected.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct Address {
    pub(super) format: u32,
    pub(super) ask: SocketAddr,
    pub(super) secret: String,
    /// The folder of its disks, where both hosts reach them; otherwise they are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) shared: Option<(PathBuf, u32)>,
}

/// The guests that are being sent.
#[derive(Debug)]
pub(super) struct Sendings {
    tasks: Mutex<BTreeMap<InstanceId, Sending>>,
    places: Arc<Semaphore>,
}

impl Default for Sendings {
    fn default() -> Self {
        Self { tasks: Mutex::default(), places: Arc::new(Semaphore::new(AT_A_TIME)) }
    }
}

/// One that is being sent.
#[derive(Debug, Clone)]
struct Sending {
    to: String,
    given_up: Arc<AtomicBool>,
    ended: watch::Receiver<Option<Result<(), String>>>,
}

impl Sending {
    /// How it ended, once it has.
    async fn end(&self) -> Result<(), String> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err("it was cut short".to_owned()),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some() || self.ended.has_changed().is_err()
    }
}

impl Sendings {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<InstanceId, Sending>) -> T) -> T {
        work(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, guest: InstanceId) -> Option<Sending> {
        self.with(|tasks| tasks.get(&guest).cloned())
    }

    /// Forgets one that has ended, and no other that was begun since.
    fn forget(&self, guest: InstanceId, ended: &Sending) {
        self.with(|tasks| {
            let same = |sending: &Sending| Arc::ptr_eq(&sending.given_up, &ended.given_up);
            if tasks.get(&guest).is_some_and(same) {
                tasks.remove(&guest);
            }
        });
    }
}

impl LibvirtHost {
    pub(super) async fn send_live(
        &self,
        instance: InstanceId,
        to: &Invitation,
    ) -> Result<Transfer, VirtError> {
        let operation = "send a guest";
        let address: Address = serde_json::from_str(&to.address).map_err(host(operation))?;
        if to.instance != instance || address.format != FORMAT {
            return Err(host(operation)("the invitation is of another guest, or a newer host"));
        }
        let inner = &self.inner;
        let turn = self.turn(instance).await;
        let (state, record) = inner.own(instance, operation).await?;
        if state.is_down() {
            let power = power(state);
            return Err(VirtError::WrongPower { instance, power, operation });
        }
        if let Some(parcel) = inner.sent(&record).await? {
            return Ok(Transfer::Complete(parcel));
        }
        let sending = match inner.sendings.of(instance) {
            // One that went well is not any more, since the guest lives another life or was taken
            // back; what else came of it is told to whoever sent it.
            Some(old) if old.has_ended() && (old.to != to.address || old.end().await.is_ok()) => {
                inner.begin_to_send(instance, to.address.clone(), address)
            }
            Some(sending) if sending.to != to.address => {
                return Err(host(operation)("it is being sent elsewhere"));
            }
            Some(sending) => sending,
            None => inner.begin_to_send(instance, to.address.clone(), address),
        };
        drop(turn);
        let Some(result) = inner.clock.within(WAIT, sending.end()).await else {
            return Ok(Transfer::UnderWay);
        };
        inner.sendings.forget(instance, &sending);
        result.map_err(host(operation))?;
        let _turn = self.turn(instance).await;
        let (_, record) = inner.own(instance, operation).await?;
        match inner.sent(&record).await? {
            Some(parcel) => Ok(Transfer::Complete(parcel)),
            None => Err(host(operation)("it was taken back")),
        }
    }

    /// Ends the sending of a guest, which goes on.
    pub(super) async fn take_back(&self, instance: InstanceId) -> Result<(), VirtError> {
        let inner = &self.inner;
        if let Some(sending) = inner.sendings.of(instance) {
            sending.given_up.store(true, Ordering::Relaxed);
            while inner.clock.within(ABORT_AGAIN, sending.end()).await.is_none() {
                // Before it has begun there is nothing to abort; that it was aborted is found out
                // by waiting.
                if let Some(migrations) = inner.daemon().migrations() {
                    let _ = migrations.abort(domain_of(instance)).await;
                }
            }
            inner.sendings.forget(instance, &sending);
        }
        let gone = inner.record(instance).await?.is_none_or(|record| record.leaving.is_none());
        if gone {
            return Ok(());
        }
        let operation = "take a guest back";
        self.alone(instance, operation, move |inner| async move {
            match inner.record(instance).await? {
                Some(record) => inner.go_on(record).await,
                None => Ok(()),
            }
        })
        .await
    }
}

impl Inner {
    /// What the destination has to be told, if everything was copied, in the life that it lives.
    async fn sent(self: &Arc<Self>, record: &Record) -> Result<Option<Parcel>, VirtError> {
        let instance = record.spec.instance;
        let Some(Leaving { life, cookie: Some(cookie), .. }) = &record.leaving else {
            return Ok(None);
        };
        if self.life(instance).await? != Some(*life) {
            return Ok(None);
        }
        Ok(Some(Parcel { instance, boot: record.boot, disks: cookie.clone() }))
    }

    /// A guest that was sent, or nearly, goes on here as it was before.
    pub(super) async fn go_on(self: &Arc<Self>, mut record: Record) -> Result<(), VirtError> {
        let operation = "let a guest go on";
        let Some(leaving) = record.leaving.take() else { return Ok(()) };
        let guest = record.spec.instance;
        if self.life(guest).await? == Some(leaving.life) {
            let domain = domain_of(guest);
            let copied = self.copied(&self.domain(&record)?, leaving.copied);
            if let (Some(migrations), true) = (self.daemon().migrations(), leaving.cookie.is_some())
            {
                // A daemon that was restarted meanwhile knows nothing of it, and only has a guest
                // that is frozen.
                match migrations.take_back(domain, &copied).await {
                    Ok(()) | Err(super::LibvirtError::Refused { .. }) => {}
                    Err(error) => return Err(host(operation)(error)),
                }
            }
            let state = self.state(guest).await?;
            record.stiff = Some(leaving.life).filter(|_| !leaving.ran);
            if leaving.ran && state == Some(DomainState::Paused) {
                self.daemon().resume(domain).await.map_err(host(operation))?;
            }
        }
        self.save(&record).await
    }

    fn begin_to_send(self: &Arc<Self>, guest: InstanceId, to: String, address: Address) -> Sending {
        let (tell, ended) = watch::channel(None);
        let given_up = Arc::new(AtomicBool::new(false));
        let sending = Sending { to, given_up: Arc::clone(&given_up), ended };
        self.sendings.with(|tasks| tasks.insert(guest, sending.clone()));
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let result = inner.send(guest, &address, &given_up).await;
            // Whoever asks next is told, also when nobody waits now.
            tell.send_replace(Some(result.map_err(|error| why(&error))));
        });
        sending
    }

    async fn send(
        self: &Arc<Self>,
        guest: InstanceId,
        to: &Address,
        given_up: &AtomicBool,
    ) -> Result<(), VirtError> {
        let operation = "send a guest";
        let places = Arc::clone(&self.sendings.places);
        let _place = places.acquire_owned().await.map_err(host(operation))?;
        let Some(migrations) = self.daemon().migrations() else {
            return Err(host(operation)("this connection does not send guests"));
        };
        let (room, copied, life) = self.ready(guest, to, given_up).await?;
        let cookie = from_hex(&room.cookie).unwrap_or_default();
        let performed = match given_up.load(Ordering::Relaxed) {
            true => Err(host(operation)("it was given up")),
            false => migrations
                .perform(domain_of(guest), &room.at, &cookie, &copied)
                .await
                .map_err(host(operation)),
        };
        let _turn = self.turns.take(guest).await;
        let record = self.record(guest).await?;
        // It may be another guest by now, or the same in another life.
        let Some(mut record) = record
            .filter(|record| record.leaving.as_ref().is_some_and(|leaving| leaving.life == life))
        else {
            return Err(host(operation)("the guest is not there any more"));
        };
        match performed {
            Ok(cookie) => {
                if let Some(leaving) = &mut record.leaving {
                    leaving.cookie = Some(to_hex(&cookie));
                }
                self.save(&record).await
            }
            Err(error) => {
                self.go_on(record).await?;
                Err(error)
            }
        }
    }

    /// Sees to it that there is room for a guest where it goes, and writes down that it leaves.
    async fn ready(
        self: &Arc<Self>,
        guest: InstanceId,
        to: &Address,
        given_up: &AtomicBool,
    ) -> Result<(Room, Copied, u32), VirtError> {
        let operation = "send a guest";
        let _turn = self.turns.take(guest).await;
        let (state, mut record) = self.own(guest, operation).await?;
        let life = self.life(guest).await?;
        let (Some(life), Some(migrations)) = (life, self.daemon().migrations()) else {
            let power = PowerState::Shutdown;
            return Err(VirtError::WrongPower { instance: guest, power, operation });
        };
        if record.rescue.is_some() {
            return Err(host(operation)("it is rescued"));
        }
        let here = self.storage.as_ref().zip(record.place);
        let here = here.map(|(storage, number)| (storage.directory().to_owned(), number));
        if to.shared.is_some() && to.shared != here {
            return Err(host(operation)("its disks are not where the other host looks for them"));
        }
        if record.config_drive && to.shared.is_none() {
            let why = "its config drive is read-only, and hypervisors copy only what is written";
            return Err(host(operation)(why));
        }
        if given_up.load(Ordering::Relaxed) {
            return Err(host(operation)("it was given up"));
        }
        if record.stiff == Some(life) && state == DomainState::Paused {
            // There is no other way: for a moment it runs.
            let domain = domain_of(guest);
            self.daemon().resume(domain).await.map_err(host(operation))?;
            self.daemon().suspend(domain).await.map_err(host(operation))?;
        }
        let copied = self.copied(&self.domain(&record)?, to.shared.is_none());
        let begun = migrations.begin(domain_of(guest), &copied).await;
        let (cookie, xml) = begun.map_err(host(operation))?;
        let said = Said { cookie: to_hex(&cookie), xml };
        let said = serde_json::to_vec(&said).map_err(host(operation))?;
        let secret = Secret::from_hex(&to.secret);
        let secret = secret.ok_or_else(|| host(operation)("the invitation has no secret"))?;
        let ask = to.ask;
        let answer = crate::files::off_thread(
            move || offer::ask_for_room(ask, &secret, guest, &said),
            |torn| torn,
        );
        let answer = answer.await.map_err(host(operation))?;
        let room: Result<Room, String> =
            serde_json::from_slice(&answer).map_err(host(operation))?;
        let room = room.map_err(host(operation))?;
        // What it was before it was ever sent counts, if it is frozen since.
        let before = record.leaving.filter(|leaving| leaving.life == life);
        let ran = state == DomainState::Running || before.is_some_and(|before| before.ran);
        record.leaving = Some(Leaving { life, ran, copied: copied.0.is_some(), cookie: None });
        record.stiff = None;
        self.save(&record).await?;
        Ok((room, copied, life))
    }
}
