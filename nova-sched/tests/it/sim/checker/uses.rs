//! Who uses how much CPU where, added up from the lines of the log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cloud::{Cloud, Line, Row};
use super::machines::whole;

/// Courses as they were given: how many seconds apart their samples are, whether each VM follows
/// its own, and the thousandths by VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) step_s: u64,
    pub(crate) own: bool,
    pub(crate) courses: BTreeMap<u64, Vec<u16>>,
}

#[derive(Debug, Clone)]
struct User {
    arrived: u64,
    vcpus: u64,
    permille: u64,
    on: Option<usize>,
    moves: bool,
    told: Option<u16>,
    course: Option<(u64, u64)>,
    wanted: f64,
    wanted_moving: f64,
}

/// Everything about use, as it is after the lines so far; nothing where it is not measured.
#[derive(Debug)]
pub(crate) struct Uses {
    rules: Value,
    given: Option<Given>,
    rows: Vec<Row>,
    users: BTreeMap<u64, User>,
    next_reading: Option<u64>,
    /// By host: milliseconds in use, and overloaded.
    times: Vec<(u64, u64)>,
    /// Wanted, served, of hosts in use, overloaded: times milliseconds, at most, and at the end.
    sums: [f64; 4],
    peaks: [u64; 4],
    at_end: [u64; 4],
}

impl Uses {
    pub(crate) fn new(
        scenario: &Value,
        given: Option<&Given>,
        cloud: &Cloud,
        rows: &[Row],
    ) -> Self {
        Self {
            rules: scenario["cpu_use"].clone(),
            given: given.cloned(),
            rows: rows.to_vec(),
            users: BTreeMap::new(),
            next_reading: None,
            times: vec![(0, 0); cloud.hosts.len()],
            sums: [0.0; 4],
            peaks: [0; 4],
            at_end: [0; 4],
        }
    }

    pub(crate) fn measured(&self) -> bool {
        !self.rules.is_null()
    }

    fn every(&self) -> u64 {
        whole(&self.rules, "every_s") * 1000
    }

    /// The thousandths of a user at a moment.
    fn permille(&self, user: &User, at: u64) -> u64 {
        match (user.course, &self.given) {
            (Some((course, from)), Some(given)) => {
                let samples = &given.courses[&course];
                let steps = (at - user.arrived) / (given.step_s * 1000);
                samples[((from + steps) % samples.len() as u64) as usize].into()
            }
            _ => user.told.map_or_else(|| whole(&self.rules, "untold_permille"), u64::from),
        }
    }

    /// One line happens, in a cloud in which it has happened already.
    pub(crate) fn happen(&mut self, cloud: &mut Cloud, line: &Line) -> Result<(), String> {
        if !self.measured() {
            let silent = line.cpu_permille.is_none() && line.what != "use_read";
            return if silent { Ok(()) } else { Err("use is not measured".into()) };
        }
        if self.next_reading.is_some_and(|next| line.t > next) {
            return Err(format!("use should have been read at {:?}", self.next_reading));
        }
        let host = |name: &Option<String>| cloud.host(name);
        match (line.what.as_str(), line.vm) {
            ("arrived", _) if self.next_reading.is_none() => {
                self.next_reading = Some((line.t / self.every() + 1) * self.every());
            }
            ("placed", Some(vm)) => self.placed(vm, host(&line.host)?, line)?,
            ("departed" | "put_off" | "refused", Some(vm)) => {
                if let Some(user) = self.users.get_mut(&vm) {
                    (user.on, user.moves) = (None, false);
                }
            }
            ("resized", Some(vm)) => {
                let to = host(&line.to)?;
                let user = self.users.get(&vm).ok_or("it was never placed")?;
                let permille = self.permille(user, line.t);
                let user = self.users.get_mut(&vm).ok_or("it was never placed")?;
                (user.on, user.vcpus, user.permille) = (Some(to), line.vcpus, permille);
            }
            ("move_began", Some(vm)) => {
                self.users.get_mut(&vm).ok_or("it was never placed")?.moves = true;
            }
            ("move_ended", Some(vm)) => {
                let (to, arrived) = (host(&line.to)?, line.arrived == Some(true));
                let user = self.users.get_mut(&vm).ok_or("it was never placed")?;
                user.moves = false;
                user.on = if arrived { Some(to) } else { user.on };
            }
            ("use_read", _) => {
                if self.next_reading != Some(line.t) {
                    return Err(format!("use should be read at {:?}", self.next_reading));
                }
                self.next_reading = Some(line.t + self.every());
                for vm in self.users.keys().copied().collect::<Vec<_>>() {
                    let permille = self.permille(&self.users[&vm], line.t);
                    self.users.entry(vm).and_modify(|user| user.permille = permille);
                }
            }
            _ => {}
        }
        for (at, host) in cloud.hosts.iter_mut().enumerate() {
            host.wanted = Some(self.wanted_of(at));
        }
        Ok(())
    }

    fn placed(&mut self, vm: u64, host: usize, line: &Line) -> Result<(), String> {
        let row = self.rows.iter().find(|row| row.vm == vm).ok_or("there is no such row")?;
        let course = line.course.zip(line.course_from);
        let own = self.given.as_ref().filter(|given| given.own);
        if let Some(given) = own
            && course != given.courses.contains_key(&vm).then_some((vm, 0))
        {
            return Err("it should follow its own course".into());
        }
        let known = self.users.get(&vm);
        if known.is_some_and(|user| user.course != course)
            || self.given.as_ref().is_some_and(|given| !given.own && course.is_none())
            || self.given.is_none() && course.is_some()
        {
            return Err("it follows another course than it should".into());
        }
        let mut user = known.cloned().unwrap_or(User {
            arrived: row.arrival_s * 1000,
            vcpus: 0,
            permille: 0,
            on: None,
            moves: false,
            told: row.cpu_permille,
            course,
            wanted: 0.0,
            wanted_moving: 0.0,
        });
        (user.vcpus, user.on) = (line.vcpus, Some(host));
        user.permille = self.permille(&user, line.t);
        if line.cpu_permille.map(u64::from) != Some(user.permille) {
            return Err(format!("it should use {} thousandths", user.permille));
        }
        self.users.insert(vm, user);
        Ok(())
    }

    fn on(&self, host: usize) -> impl Iterator<Item = &User> {
        self.users.values().filter(move |user| user.on == Some(host))
    }

    fn wanted_of(&self, host: usize) -> u64 {
        self.on(host).map(|user| user.vcpus * user.permille).sum()
    }

    /// Wanted, served and of hosts in use in thousandths of CPUs, and how many are overloaded.
    fn now(&self, cloud: &Cloud) -> [u64; 4] {
        let mut all = [0; 4];
        for (at, host) in cloud.hosts.iter().enumerate() {
            let (has, wanted) = (host.machine.cpus * 1000, self.wanted_of(at));
            let in_use = if self.on(at).next().is_some() { has } else { 0 };
            for (sum, more) in
                all.iter_mut().zip([wanted, wanted.min(has), in_use, u64::from(wanted > has)])
            {
                *sum += more;
            }
        }
        all
    }

    /// Time goes on by so many milliseconds.
    pub(crate) fn pass(&mut self, cloud: &Cloud, millis: u64) {
        let now = self.now(cloud);
        for (sum, value) in self.sums.iter_mut().zip(now) {
            *sum += value as f64 * millis as f64;
        }
        for (at, host) in cloud.hosts.iter().enumerate() {
            let in_use = self.on(at).next().is_some();
            let overloaded = self.wanted_of(at) > host.machine.cpus * 1000;
            self.times[at].0 += if in_use { millis } else { 0 };
            self.times[at].1 += if overloaded { millis } else { 0 };
        }
        for user in self.users.values_mut().filter(|user| user.on.is_some()) {
            let wanted = (user.vcpus * user.permille * millis) as f64;
            user.wanted += wanted;
            user.wanted_moving += if user.moves { wanted } else { 0.0 };
        }
    }

    pub(crate) fn look(&mut self, cloud: &Cloud) {
        let now = self.now(cloud);
        self.peaks = std::array::from_fn(|at| self.peaks[at].max(now[at]));
    }

    pub(crate) fn end(&mut self, cloud: &Cloud) {
        self.at_end = self.now(cloud);
        self.next_reading = None;
    }

    /// What a sample says of use.
    pub(crate) fn sample(&self, cloud: &Cloud) -> (Value, Value) {
        if !self.measured() {
            return (Value::Null, Value::Null);
        }
        let [wanted, _, _, overloaded] = self.now(cloud);
        (json!(wanted as f64 / 1000.0), json!(overloaded))
    }

    /// What the report says of use.
    pub(crate) fn report(&self, millis: u64) -> Value {
        if !self.measured() {
            return Value::Null;
        }
        let mean = |at: usize| match millis {
            0 => self.at_end[at] as f64,
            millis => self.sums[at] / millis as f64,
        };
        let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let used: Vec<&(u64, u64)> = self.times.iter().filter(|(in_use, _)| *in_use > 0).collect();
        let shares: f64 = used.iter().map(|(in_use, over)| *over as f64 / *in_use as f64).sum();
        let overloaded = ratio(shares, used.len() as f64);
        let lost = self.rules["lost_in_moves"].as_f64().unwrap();
        let users: Vec<&User> = self.users.values().filter(|user| user.wanted > 0.0).collect();
        let shares: f64 = users.iter().map(|user| lost * user.wanted_moving / user.wanted).sum();
        let in_moves = ratio(shares, users.len() as f64);
        json!({
            "mean_wanted": mean(0) / 1000.0,
            "peak_wanted": self.peaks[0] as f64 / 1000.0,
            "of_hosts_in_use": ratio(mean(1), mean(2)),
            "unserved_share": ratio(mean(0) - mean(1), mean(0)),
            "mean_overloaded_hosts": mean(3),
            "peak_overloaded_hosts": self.peaks[3],
            "overloaded_share": overloaded,
            "lost_in_moves": in_moves,
            "sla_violation": overloaded * in_moves,
        })
    }
}
