//! Windows in which hosts are maintained.

use nova_core::domain::{Admission, Invalid, Slot};

use super::event::{Event, PutOff};
use super::scenario::Maintenance;
use super::simulation::{Planned, Simulation, SimulationError};
use super::{Moment, Place, World};

/// A window with the hosts that it is of.
#[derive(Debug)]
pub(super) struct Window {
    hosts: Vec<Slot>,
    notice: Moment,
    from: Moment,
    until: Moment,
}

impl Window {
    /// The windows of a scenario.
    ///
    /// # Errors
    /// [`Invalid`] for one of hosts that do not exist.
    pub(super) fn all(world: &World, windows: &[Maintenance]) -> Result<Vec<Self>, Invalid> {
        let window = |window: &Maintenance| {
            let hosts = hosts(world, &window.hosts);
            if hosts.is_empty() {
                let allowed = "the name of a host, rack:NAME or zone:NAME, of the cluster";
                return Err(Invalid::new("maintenance.hosts", &window.hosts, allowed));
            }
            Ok(Self {
                hosts,
                notice: Moment::of_seconds(window.from_s.saturating_sub(window.notice_s)),
                from: Moment::of_seconds(window.from_s),
                until: Moment::of_seconds(window.until_s),
            })
        };
        windows.iter().map(window).collect()
    }
}

fn hosts(world: &World, which: &str) -> Vec<Slot> {
    let slots = world.hosts().slots();
    if let Some(rack) = which.strip_prefix("rack:") {
        let of = |slot: &Slot| world.rack(*slot).is_some_and(|known| known.as_str() == rack);
        return slots.filter(of).collect();
    }
    if let Some(zone) = which.strip_prefix("zone:") {
        let of = |slot: &Slot| world.hosts().at(*slot).is_some_and(|row| row.zone.as_str() == zone);
        return slots.filter(of).collect();
    }
    world.host_named(which).into_iter().collect()
}

impl Simulation<'_> {
    pub(super) fn plan_windows(&mut self) {
        for at in 0..self.windows.len() {
            let window = &self.windows[at];
            let (notice, from, until) = (window.notice, window.from, window.until);
            let at = at as u32;
            self.put(notice, Planned::WindowNoticed(at));
            self.put(from, Planned::WindowBegins(at));
            self.put(until, Planned::WindowEnds(at));
        }
    }

    /// The hosts take nothing new, and what is there begins to move away.
    pub(super) fn notice_window(&mut self, at: u32) -> Result<(), SimulationError> {
        let hosts = self.windows[at as usize].hosts.clone();
        for host in &hosts {
            if self.world.close(*host) {
                self.tell(Event::HostClosed { host: *host });
            }
        }
        for host in hosts {
            let vms: Vec<_> = self.world.vms_on(host).collect();
            for vm in vms {
                let there = self.world.vm(vm).is_some_and(|vm| vm.place == Place::On(host));
                if there && !self.move_somewhere(vm)? {
                    self.counts.moves_refused += 1;
                }
            }
        }
        Ok(())
    }

    /// What could not be moved away is put off, and asks for another host.
    pub(super) fn begin_window(&mut self, at: u32) -> Result<(), SimulationError> {
        for host in self.windows[at as usize].hosts.clone() {
            let vms: Vec<_> = self.world.vms_on(host).collect();
            for vm in vms {
                match self.world.vm(vm).map(|vm| vm.place) {
                    Some(Place::Moving { from, to }) if from != host => {
                        self.cut_move_short(vm, from, to);
                    }
                    _ => self.put_off(vm, PutOff::Maintenance, true)?,
                }
            }
        }
        Ok(())
    }

    /// The hosts take VMs again, unless another window keeps them closed.
    pub(super) fn end_window(&mut self, at: u32) {
        for host in self.windows[at as usize].hosts.clone() {
            if self.world.open(host) {
                self.tell(Event::HostOpened { host });
            }
        }
        self.freed = true;
    }
}

impl World {
    /// Closes a host to new VMs; whether it was open.
    fn close(&mut self, host: Slot) -> bool {
        let first = self.count_closed(host, 1) == 1;
        if first {
            self.change_host(host, |row| row.admission = Admission::Disabled);
        }
        first
    }

    /// Opens a host, when everybody who closed it has; whether it is open.
    fn open(&mut self, host: Slot) -> bool {
        let last = self.count_closed(host, -1) == 0;
        if last {
            self.change_host(host, |row| row.admission = Admission::Enabled);
        }
        last
    }
}
