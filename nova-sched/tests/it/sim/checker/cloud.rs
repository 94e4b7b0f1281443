//! Hosts and VMs as the log tells of them, and every rule that a line may break.

use std::collections::BTreeMap;

use serde_json::Value;

use super::machines::{Machine, machines, whole};

/// vCPUs, memory in MiB, disk in GiB.
pub(crate) type Amounts = [u64; 3];

/// A row of the trace, as far as the log should follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) vm: u64,
    pub(crate) arrival_s: u64,
    pub(crate) end_s: Option<u64>,
    pub(crate) takes: Amounts,
    pub(crate) priority: u8,
    pub(crate) gang: Option<u64>,
    pub(crate) cpu_permille: Option<u16>,
}

/// A line of the log.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    pub(crate) t: u64,
    pub(crate) what: String,
    pub(crate) vm: Option<u64>,
    #[serde(default)]
    pub(crate) vcpus: u64,
    #[serde(default)]
    mem_mib: u64,
    #[serde(default)]
    disk_gib: u64,
    pub(crate) host: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) why: Option<String>,
    pub(crate) arrived: Option<bool>,
    scheduler: Option<u64>,
    pub(crate) cpu_permille: Option<u16>,
    pub(crate) course: Option<u64>,
    pub(crate) course_from: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) claims: BTreeMap<u64, Amounts>,
    pub(crate) up: bool,
    pub(crate) closed: bool,
    /// Thousandths of its CPUs that its VMs want to use, where that is measured.
    pub(crate) wanted: Option<u64>,
}

impl Host {
    pub(crate) fn used(&self) -> Amounts {
        self.claims.values().fold([0; 3], |sum, takes| [0, 1, 2].map(|at| sum[at] + takes[at]))
    }

    pub(crate) fn takes_vms(&self) -> bool {
        self.up && !self.closed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Asks,
    Waits,
    On(usize),
    Moves { from: usize, to: usize, until: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Guest {
    row: Row,
    takes: Amounts,
    pub(crate) life: Life,
    started: bool,
    asked: u64,
}

/// Everything, as it is after the lines so far.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) hosts: Vec<Host>,
    pub(crate) guests: BTreeMap<u64, Guest>,
    scenario: Value,
    rows: Vec<Row>,
    /// How many rows came.
    pub(crate) came: usize,
    /// By what they ask for: how many came, and how many of them got a host.
    pub(crate) shapes: Vec<(Amounts, u64, u64)>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) put_off: BTreeMap<String, u64>,
    pub(crate) waits: Vec<u64>,
    /// Those that were put off for one that must come next.
    victims: Vec<u8>,
    /// The first moment at which each row was placed or ended without.
    started_at: BTreeMap<usize, Result<u64, (u64, String)>>,
    now: u64,
}

impl Cloud {
    pub(crate) fn new(cluster: &Value, scenario: &Value, rows: &[Row]) -> Self {
        let wanted = (!scenario["cpu_use"].is_null()).then_some(0);
        let host = |machine| {
            let claims = BTreeMap::new();
            Host { machine, claims, up: true, closed: false, wanted }
        };
        Self {
            hosts: machines(cluster).into_iter().map(host).collect(),
            guests: BTreeMap::new(),
            scenario: scenario.clone(),
            rows: rows.to_vec(),
            came: 0,
            shapes: Vec::new(),
            counts: BTreeMap::new(),
            refused: BTreeMap::new(),
            put_off: BTreeMap::new(),
            waits: Vec::new(),
            victims: Vec::new(),
            started_at: BTreeMap::new(),
            now: 0,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn counted(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn host(&self, name: &Option<String>) -> Result<usize, String> {
        let name = name.as_deref().ok_or("no host is named")?;
        let at = self.hosts.iter().position(|host| host.machine.name == name);
        at.ok_or_else(|| format!("there is no host {name}"))
    }

    fn claim(&mut self, vm: u64, host: usize, takes: Amounts) -> Result<(), String> {
        if self.hosts[host].claims.insert(vm, takes).is_some() {
            return Err(format!("vm {vm} has a claim on that host already"));
        }
        Ok(())
    }

    fn claim_anew(&mut self, vm: u64, host: usize, takes: Amounts) -> Result<(), String> {
        if !self.hosts[host].takes_vms() {
            return Err(format!("{} is down or closed", self.hosts[host].machine.name));
        }
        self.claim(vm, host, takes)
    }

    fn release(&mut self, vm: u64, host: usize) -> Result<(), String> {
        let released = self.hosts[host].claims.remove(&vm);
        released.map(|_| ()).ok_or_else(|| format!("vm {vm} has no claim there"))
    }

    /// One line happens.
    pub(crate) fn happen(&mut self, line: &Line) -> Result<(), String> {
        if line.t < self.now {
            return Err("time goes back".into());
        }
        if line.t > self.now {
            self.settled(line.t)?;
        }
        self.now = line.t;
        match line.what.as_str() {
            "host_down" => self.switch(line, "host_failures", |host| &mut host.up, false)?,
            "host_up" => self.switch(line, "repairs", |host| &mut host.up, true)?,
            "host_closed" => self.switch(line, "closed", |host| &mut host.closed, true)?,
            "use_read" => {}
            "host_opened" => self.switch(line, "opened", |host| &mut host.closed, false)?,
            _ => self.happen_to(line)?,
        }
        if !matches!(line.what.as_str(), "put_off") && !self.victims.is_empty() {
            return Err("somebody was put off for nobody".into());
        }
        for host in &self.hosts {
            let used = host.used();
            if (0..3).any(|at| used[at] as f64 > host.machine.holds[at]) {
                let (name, holds) = (&host.machine.name, host.machine.holds);
                return Err(format!("{name} is over capacity: {used:?} of {holds:?}"));
            }
        }
        Ok(())
    }

    fn switch(
        &mut self,
        line: &Line,
        what: &'static str,
        flag: impl Fn(&mut Host) -> &mut bool,
        to: bool,
    ) -> Result<(), String> {
        let host = self.host(&line.host)?;
        self.count(what);
        if std::mem::replace(flag(&mut self.hosts[host]), to) == to {
            return Err("it is so already".into());
        }
        Ok(())
    }

    fn happen_to(&mut self, line: &Line) -> Result<(), String> {
        let vm = line.vm.ok_or("no vm is named")?;
        let takes = [line.vcpus, line.mem_mib, line.disk_gib];
        if line.what == "arrived" {
            return self.arrive(vm, takes, line.t);
        }
        let guest = self.guests.get(&vm).cloned().ok_or("that vm is not there")?;
        if line.what != "resized" && takes != guest.takes {
            return Err(format!("it should take {:?}", guest.takes));
        }
        let wrong = || Err(format!("that cannot happen to {guest:?}"));
        let at_row = self.rows.iter().position(|row| *row == guest.row).unwrap_or(0);
        let mut life = Some(guest.life);
        match (line.what.as_str(), guest.life) {
            ("placed", Life::Asks | Life::Waits) => {
                let host = self.host(&line.host)?;
                self.claim_anew(vm, host, takes)?;
                self.preempted(&guest)?;
                if !guest.started {
                    self.count("placed");
                    self.waits.push(line.t - guest.row.arrival_s * 1000);
                    self.started_at.insert(at_row, Ok(line.t));
                    let shape = self.shapes.iter_mut().find(|(shape, _, _)| *shape == takes);
                    shape.ok_or("nobody came with that shape")?.2 += 1;
                }
                self.guests.entry(vm).and_modify(|guest| guest.started = true);
                life = Some(Life::On(host));
            }
            ("waits", Life::Asks) if !self.scenario["waiting"].is_null() => {
                life = Some(Life::Waits)
            }
            ("refused", Life::Asks | Life::Waits) => {
                let why = line.why.clone().ok_or("no reason is told")?;
                self.refuse(&guest, &why, line.t)?;
                if !guest.started {
                    self.started_at.insert(at_row, Err((line.t, why.clone())));
                }
                *self.refused.entry(why).or_default() += 1;
                self.count(if guest.started { "lost" } else { "rejected" });
                life = None;
            }
            ("departed", Life::On(host)) => {
                if self.host(&line.host)? != host {
                    return wrong();
                }
                self.release(vm, host)?;
                self.depart(&guest, line.t)?;
                life = None;
            }
            ("departed", Life::Asks | Life::Waits) if guest.started && line.host.is_none() => {
                self.depart(&guest, line.t)?;
                life = None;
            }
            ("put_off", Life::On(host)) if self.host(&line.host)? == host => {
                self.release(vm, host)?;
                life = self.put_off(&guest, line)?;
            }
            ("resized", Life::On(from)) if self.host(&line.host)? == from => {
                let to = self.host(&line.to)?;
                self.release(vm, from)?;
                if to == from {
                    self.claim(vm, to, takes)?
                } else {
                    self.claim_anew(vm, to, takes)?
                }
                self.guests.entry(vm).and_modify(|guest| guest.takes = takes);
                self.count("resized");
                life = Some(Life::On(to));
            }
            ("resize_refused", Life::On(host)) if self.host(&line.host)? == host => {
                self.count("resizes_refused");
            }
            ("move_began", Life::On(from)) if self.host(&line.host)? == from => {
                let (to, lasts) = (self.host(&line.to)?, self.move_ms(takes[1]));
                self.claim_anew(vm, to, takes)?;
                self.count("migrations");
                *self.counts.entry("migration_ms").or_default() += lasts;
                life = Some(Life::Moves { from, to, until: line.t + lasts });
            }
            ("move_ended", Life::Moves { from, to, until }) => {
                if (self.host(&line.host)?, self.host(&line.to)?) != (from, to) {
                    return wrong();
                }
                let arrived = line.arrived.ok_or("it is not told whether it arrived")?;
                if arrived && line.t != until || line.t > until {
                    return Err(format!("the move should have ended at {until}"));
                }
                self.release(vm, if arrived { from } else { to })?;
                if !arrived {
                    self.count("migrations_cut_short");
                }
                life = Some(Life::On(if arrived { to } else { from }));
            }
            ("conflict", Life::Asks | Life::Waits) => {
                let schedulers = whole(&self.scenario["schedulers"], "count");
                if line.scheduler.is_none_or(|scheduler| scheduler >= schedulers) {
                    return Err("there is no such scheduler".into());
                }
                self.count("conflicts");
            }
            _ => return wrong(),
        }
        match life {
            Some(life) => {
                self.guests.entry(vm).and_modify(|guest| guest.life = life);
            }
            None => {
                self.guests.remove(&vm);
            }
        }
        Ok(())
    }

    fn arrive(&mut self, vm: u64, takes: Amounts, t: u64) -> Result<(), String> {
        let row = *self.rows.get(self.came).ok_or("the trace has no more rows")?;
        if (row.vm, row.takes, row.arrival_s * 1000) != (vm, takes, t) {
            return Err(format!("the next should be {row:?}"));
        }
        self.came += 1;
        match self.shapes.iter_mut().find(|(shape, _, _)| *shape == takes) {
            Some((_, came, _)) => *came += 1,
            None => self.shapes.push((takes, 1, 0)),
        }
        let guest = Guest { row, takes, life: Life::Asks, started: false, asked: t };
        match self.guests.insert(vm, guest) {
            Some(_) => Err("that vm is there already".into()),
            None => Ok(()),
        }
    }

    /// Whoever got the room of others had the right to.
    fn preempted(&mut self, guest: &Guest) -> Result<(), String> {
        let victims = std::mem::take(&mut self.victims);
        if !victims.is_empty() {
            self.count("preemptions");
        }
        let gap = whole(&self.scenario["preemption"], "priority_gap");
        match victims.iter().find(|victim| u64::from(**victim) + gap > guest.row.priority.into()) {
            Some(victim) => Err(format!("it is not more important than {victim} by {gap}")),
            None => Ok(()),
        }
    }

    fn put_off(&mut self, guest: &Guest, line: &Line) -> Result<Option<Life>, String> {
        let why = line.why.as_deref().ok_or("no reason is told")?;
        *self.put_off.entry(why.to_owned()).or_default() += 1;
        let failures = &self.scenario["failures"];
        let host = &self.hosts[self.host(&line.host)?];
        match why {
            "failure" if host.up => return Err("that host has not failed".into()),
            "maintenance" if !host.closed => return Err("that host is not maintained".into()),
            "failure" if failures["restart"] == false => {
                self.count("lost");
                return Ok(None);
            }
            "preemption" => self.victims.push(guest.row.priority),
            _ => {}
        }
        self.guests.entry(guest.row.vm).and_modify(|guest| guest.asked = line.t);
        Ok(Some(Life::Asks))
    }

    fn depart(&mut self, guest: &Guest, t: u64) -> Result<(), String> {
        self.count("departed");
        match guest.row.end_s.map(|end_s| end_s * 1000) {
            Some(end) if end == t => Ok(()),
            end => Err(format!("it should leave at {end:?}")),
        }
    }

    fn refuse(&self, guest: &Guest, why: &str, t: u64) -> Result<(), String> {
        let waiting = &self.scenario["waiting"];
        let patience = whole(waiting, "patience_s") * 1000;
        let right = match why {
            "no_host" | "conflicts" | "gang" => waiting.is_null() && guest.life == Life::Asks,
            "patience" => guest.life == Life::Waits && t >= guest.asked + patience,
            "ended" => !guest.started && guest.row.end_s == Some(t / 1000),
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("{why} is no reason for {guest:?}")) }
    }

    /// How long the memory of a VM takes to send.
    fn move_ms(&self, memory: u64) -> u64 {
        let rule = |what: &str| self.scenario["moves"][what].as_f64().unwrap();
        let seconds = memory as f64 * (1.0 + rule("dirty_share")) / rule("bandwidth_mib_s");
        (seconds * 1000.0).ceil() as u64 + rule("overhead_ms") as u64
    }

    /// What must hold when time goes on: everything that had to happen by now has.
    pub(crate) fn settled(&self, next: u64) -> Result<(), String> {
        let now = self.now;
        if let Some(host) = self.hosts.iter().find(|host| !host.up && !host.claims.is_empty()) {
            return Err(format!("{} is down with VMs on it", host.machine.name));
        }
        let desks = !self.scenario["schedulers"].is_null();
        let patience = whole(&self.scenario["waiting"], "patience_s") * 1000;
        for guest in self.guests.values() {
            let overdue = guest.row.end_s.is_some_and(|end_s| end_s * 1000 <= now);
            let asks = guest.life == Life::Asks && !desks;
            let waits = guest.life == Life::Waits && !desks && guest.asked + patience < next;
            let moves = matches!(guest.life, Life::Moves { until, .. } if until < next);
            if overdue || asks || waits || moves {
                return Err(format!("at {now}, then {next}, this cannot be: {guest:?}"));
            }
        }
        for host in &self.hosts {
            let (mut closed, mut empty) = (false, false);
            for window in self.scenario["maintenance"].as_array().into_iter().flatten() {
                let which = window["hosts"].as_str().unwrap_or_default();
                let Machine { name, rack, zone, .. } = &host.machine;
                let of = which == name
                    || which.strip_prefix("rack:").is_some_and(|of| rack.as_deref() == Some(of))
                    || which.strip_prefix("zone:").is_some_and(|of| zone == of);
                let (from, until) = (whole(window, "from_s"), whole(window, "until_s"));
                let notice = from.saturating_sub(whole(window, "notice_s"));
                closed |= of && (notice * 1000..until * 1000).contains(&now);
                empty |= of && (from * 1000..until * 1000).contains(&now);
            }
            if closed != host.closed || empty && !host.claims.is_empty() {
                let why = format!("should be closed: {closed}, empty: {empty}");
                return Err(format!("at {now} this {why}: {host:?}"));
            }
        }
        Ok(())
    }

    /// What must hold when nothing happens any more.
    pub(crate) fn ended(&self) -> Result<(), String> {
        self.settled(u64::MAX)?;
        if self.came != self.rows.len() {
            return Err(format!("only {} rows came", self.came));
        }
        for guest in self.guests.values() {
            if !matches!(guest.life, Life::On(_)) || guest.row.end_s.is_some() {
                return Err(format!("at the end there is still {guest:?}"));
            }
        }
        let claims: usize = self.hosts.iter().map(|host| host.claims.len()).sum();
        if claims != self.guests.len() {
            return Err("not everything that was taken was given back".into());
        }
        if let Some(host) = self.hosts.iter().find(|host| !host.takes_vms()) {
            return Err(format!("at the end there is still {host:?}"));
        }
        self.gangs_stand_together()
    }

    /// All of a gang were placed in one moment, or those that were not had left before.
    fn gangs_stand_together(&self) -> Result<(), String> {
        let mut gangs: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (at, row) in self.rows.iter().enumerate() {
            if let Some(gang) = row.gang {
                gangs.entry(gang).or_default().push(at);
            }
        }
        for (gang, members) in gangs {
            let ends = || members.iter().filter_map(|at| self.started_at.get(at));
            let placed: Vec<u64> = ends().filter_map(|end| end.clone().ok()).collect();
            let Some(first) = placed.first() else { continue };
            let late = |end: &Result<u64, (u64, String)>| match end {
                Ok(at) => at != first,
                Err((at, why)) => why != "ended" || at > first,
            };
            if ends().any(late) {
                return Err(format!("gang {gang} was torn apart"));
            }
        }
        Ok(())
    }
}
