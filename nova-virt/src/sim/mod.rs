//! Simulated hosts: everything a host does except executing instructions.
//!
//! A [`SimHost`] keeps the state of a host truly. A guest that was paused is paused, a full host
//! is full, a host without power answers nobody, and what was in its memory is gone when power
//! comes back. It can be slow and unreliable as [`SimOptions`] say, by a clock and a seed that
//! are handed in. What it is not: nothing executes, no disk has contents, no packet flows.

mod abilities;
mod agents;
mod dice;
mod driver;
mod fleet;
mod live;
mod options;
mod rescue;
mod snapshot;
mod state;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nova_core::clock::{Clock, SystemClock};
use nova_core::domain::{HostName, InstanceId, PowerState, Resources};
use nova_core::port::{GuestChange, GuestSpec, Herald, VirtError, VolumeLink};
use nova_core::seed::Seed;

pub use self::fleet::{Fleet, FleetError};
pub use self::options::{Capacity, Faults, Latency, SimOptions, Verb};

use self::dice::Dice;
use self::state::State;
use crate::files::{self, FileError, Lock};

/// A simulated host.
///
/// ```
/// use nova_core::domain::{GiB, Resources, Vcpus};
/// use nova_virt::SimHost;
///
/// # fn main() -> Result<(), nova_core::domain::Invalid> {
/// let size = Resources { vcpus: Vcpus(16), memory: GiB(64).to_mib(), disk: GiB(1000) };
/// let host = SimHost::new("host-1".parse()?, size);
/// assert_eq!(host.to_string(), "simulated host host-1");
/// # Ok(())
/// # }
/// ```
///
/// A host that was made with [`new`](Self::new) lives as long as the value. One that was
/// [`open`](Self::open)ed lives in a file: its guests go on running while the program that
/// manages them is away.
#[derive(Debug)]
pub struct SimHost {
    total: Resources,
    options: SimOptions,
    clock: Arc<dyn Clock>,
    dice: Mutex<Dice>,
    /// Held while an image is fetched, so that guests that come together wait for one download.
    fetching: tokio::sync::Mutex<()>,
    machine: Arc<Machine>,
}

impl SimHost {
    /// A host with power and without guests, in memory, on the system's clock.
    pub fn new(name: HostName, total: Resources) -> Self {
        Self::on(Machine::new(State::new(name), None), total)
    }

    /// The host that `path` holds, or a new one when there is no such file.
    ///
    /// Every change is saved before it is answered. The file is locked through a second one,
    /// `path` with `.lock` appended, until the host is dropped. `total` is what the host has from
    /// now on, whatever it had before. This reads and writes files on the calling thread.
    ///
    /// # Errors
    /// [`FileError`]: the file is damaged, of a newer format, of a host with another name, or in
    /// use.
    pub fn open(
        path: impl Into<PathBuf>,
        name: HostName,
        total: Resources,
    ) -> Result<Self, FileError> {
        let path = path.into();
        let lock = Lock::take(&files::beside(&path, ".lock"))?;
        let state = match files::load::<State>(&path)? {
            None => State::new(name),
            Some(state) if state.host == name => state,
            Some(state) => {
                let (found, expected) = (state.host.to_string(), name.to_string());
                return Err(FileError::Foreign { path, found, expected });
            }
        };
        // A place that cannot be written is noticed now and not by the first guest.
        files::save(&path, &state)?;
        let file = Some(StateFile { path, _lock: lock });
        Ok(Self::on(Machine::new(state, file), total))
    }

    fn on(machine: Machine, total: Resources) -> Self {
        let name = machine.state().host.clone();
        Self {
            total,
            options: SimOptions::default(),
            clock: Arc::new(SystemClock::new()),
            dice: Mutex::new(Dice::new(Seed::new(0), &name)),
            fetching: tokio::sync::Mutex::default(),
            machine: Arc::new(machine),
        }
    }

    /// Takes time from `clock`, by which latencies are slept.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes chance from a child of `seed` that bears the host's name: hosts that share a seed
    /// still differ.
    #[must_use]
    pub fn with_seed(mut self, seed: Seed) -> Self {
        self.dice = Mutex::new(Dice::new(seed, &self.name()));
        self
    }

    /// Sets how the host behaves.
    #[must_use]
    pub fn with_options(mut self, options: SimOptions) -> Self {
        self.options = options;
        self
    }

    /// The host's name.
    pub fn name(&self) -> HostName {
        self.machine.state().host.clone()
    }

    /// Whether the host has power.
    pub fn is_powered(&self) -> bool {
        self.machine.state().powered
    }

    /// What its guests take in all, of which memory and disk are held to [`Capacity`].
    pub fn used(&self) -> Resources {
        self.machine.state().used()
    }

    /// How many guests are here, whatever their power state and that of the host.
    pub fn guest_count(&self) -> usize {
        self.machine.state().guests.len()
    }

    /// What a guest was made from; none when it is not here or somebody else started it.
    pub fn spec(&self, instance: InstanceId) -> Option<GuestSpec> {
        self.machine.state().guests.get(&instance).and_then(|guest| guest.spec.clone())
    }

    /// The volumes that are plugged into a guest, sorted, with how the host reaches them; none when
    /// the guest is not here.
    pub fn links(&self, instance: InstanceId) -> Vec<VolumeLink> {
        let state = self.machine.state();
        state.guests.get(&instance).map(|guest| guest.links()).unwrap_or_default()
    }

    /// What was done since this value was made.
    pub fn counters(&self) -> Counters {
        let calls = self.dice().calls.clone();
        let state = self.machine.state();
        Counters { calls, boots: state.boots, image_downloads: state.image_downloads }
    }

    /// Cuts the power: every guest is off at once, and every call fails, also those under way,
    /// until [`restore_power`](Self::restore_power).
    ///
    /// This and the following methods are an operator's hand at the machine; they take no
    /// latency, and for a host in a file they write on the calling thread.
    ///
    /// # Errors
    /// [`FileError::Io`] when the file could not be saved; nothing has happened then.
    pub fn lose_power(&self) -> Result<(), FileError> {
        self.machine.change(State::lose_power)
    }

    /// Gives the host power again. Its guests are there, shut down, with their disks.
    ///
    /// # Errors
    /// As for [`lose_power`](Self::lose_power).
    pub fn restore_power(&self) -> Result<(), FileError> {
        self.machine.change(|state| state.powered = true)
    }

    /// Destroys every guest, disk and cached image, as when a host comes back with new disks.
    ///
    /// # Errors
    /// As for [`lose_power`](Self::lose_power).
    pub fn wipe(&self) -> Result<(), FileError> {
        self.machine.change(|state| {
            state.guests.clear();
            state.images.clear();
            state.used_images.clear();
        })
    }

    /// Starts a guest of this size that no one asked the driver for; one that is there is left.
    ///
    /// # Errors
    /// As for [`lose_power`](Self::lose_power).
    pub fn plant_guest(&self, instance: InstanceId, size: Resources) -> Result<(), FileError> {
        self.machine.change(|state| state.plant(instance, size))
    }

    /// Ends a guest as when it crashed: it is shut down. One that is not there is success.
    ///
    /// # Errors
    /// As for [`lose_power`](Self::lose_power).
    pub fn crash_guest(&self, instance: InstanceId) -> Result<(), FileError> {
        self.machine.change(|state| {
            if let Some(guest) = state.guests.get_mut(&instance) {
                guest.shut_down();
            }
        })
    }

    /// What is written on the disk of a guest; none when it is not here.
    pub fn disk(&self, instance: InstanceId) -> Option<String> {
        self.machine.state().guests.get(&instance).map(|guest| guest.disk.clone())
    }

    /// Writes on the disk of a guest, as what runs in it does; a new disk is empty.
    ///
    /// # Errors
    /// As for [`lose_power`](Self::lose_power).
    pub fn write_disk(&self, instance: InstanceId, text: &str) -> Result<(), FileError> {
        self.machine.change(|state| {
            if let Some(guest) = state.guests.get_mut(&instance) {
                text.clone_into(&mut guest.disk);
            }
        })
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Display for SimHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "simulated host {}", self.name())
    }
}

/// What a simulated host did since the value was made; what its file remembers is not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// How often each verb was called, whatever became of it; verbs without calls are absent.
    pub calls: BTreeMap<Verb, u64>,
    /// How often a guest began to execute from the start.
    pub boots: u64,
    /// How often an image's bytes were fetched to their end.
    pub image_downloads: u64,
}

/// Why a simulated host did not do something; the source of its
/// [`VirtError::Host`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimFailure {
    /// The host has no power, or lost it while the call was under way.
    #[error("the host has no power")]
    NoPower,
    /// A seeded failure: nothing was done.
    #[error("the host refused")]
    Refused,
    /// A seeded failure: it was done.
    #[error("the answer was lost")]
    AnswerLost,
    /// A seeded failure: nobody knows whether it was done.
    #[error("the host did not answer")]
    NoAnswer,
    /// The state could not be saved; nothing was done.
    #[error("the host could not keep its state")]
    File(#[source] FileError),
    /// The work was torn down, which happens when its runtime shuts down.
    #[error("the work was cancelled")]
    Cancelled,
}

impl SimFailure {
    fn of(self, verb: Verb) -> VirtError {
        VirtError::Host { operation: verb.name(), source: Box::new(self) }
    }
}

/// The state with the file that holds it, and with those who are told of changes.
#[derive(Debug)]
struct Machine {
    state: Mutex<State>,
    file: Option<StateFile>,
    herald: Herald,
}

#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    _lock: Lock,
}

impl Machine {
    fn new(state: State, file: Option<StateFile>) -> Self {
        Self { state: Mutex::new(state), file, herald: Herald::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and saves it; what could not be saved has not happened. Of what changed,
    /// those are told who listen.
    fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T, FileError> {
        let mut state = self.state();
        let known = self.herald.is_heard().then(|| Known::of(&state));
        let answer = self.save(&mut state, work)?;
        if let Some(known) = known {
            known.tell(&Known::of(&state), &self.herald);
        }
        Ok(answer)
    }

    fn save<T>(
        &self,
        state: &mut State,
        work: impl FnOnce(&mut State) -> T,
    ) -> Result<T, FileError> {
        let Some(StateFile { path, .. }) = &self.file else { return Ok(work(state)) };
        let before = state.clone();
        let answer = work(state);
        if *state != before
            && let Err(error) = files::save(path, &*state)
        {
            *state = before;
            return Err(error);
        }
        Ok(answer)
    }
}

/// What a host tells of.
struct Known {
    powered: bool,
    guests: BTreeMap<InstanceId, PowerState>,
}

impl Known {
    fn of(state: &State) -> Self {
        let guests = state.guests.iter().map(|(id, guest)| (*id, guest.power));
        Self { powered: state.powered, guests: guests.collect() }
    }

    /// Tells what is otherwise now. A host without power tells nothing, until it has it again.
    fn tell(&self, now: &Self, herald: &Herald) {
        match (self.powered, now.powered) {
            (_, false) => {}
            (false, true) => herald.tell(GuestChange::Anything),
            (true, true) => {
                let ids: std::collections::BTreeSet<&InstanceId> =
                    self.guests.keys().chain(now.guests.keys()).collect();
                for id in ids {
                    if self.guests.get(id) != now.guests.get(id) {
                        herald.tell(GuestChange::Guest(*id));
                    }
                }
            }
        }
    }
}
