//! Google's cluster traces: task_events of 2011 and instance_events of 2019.

use std::borrow::Cow;
use std::io::Read;

use nova_core::domain::{Invalid, Resources};
use serde::Deserialize;

use super::events::{self, Comes, Event, Misfits};
use super::lines::{self, Each, Lines, decimal, number, share_of};
use super::{BadRow, ReadOptions, Rows, TraceRow, json};

/// What both traces write for a time after their end.
const AFTER: u64 = i64::MAX as u64;

pub(super) fn is_task_2011(line: &[u8]) -> bool {
    let row = lines::split::<13>(line);
    row.is_ok_and(|row| [0, 2, 3, 5].iter().all(|at| lines::digits(row[*at]).is_some()))
}

pub(super) fn is_instance_2019(line: &[u8]) -> bool {
    let has = |name: &[u8]| line.windows(name.len()).any(|part| part == name);
    line.starts_with(b"{") && has(b"\"collection_id\"") && has(b"\"instance_index\"")
}

/// What an event does to something that may run.
enum Does {
    Comes,
    Goes,
    Nothing,
}

pub(super) fn tasks_2011<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let machine = options.machine;
    let each = Each::new(Lines::new(reader), move |lines: &Lines<R>| task_2011(lines, machine));
    events::rows(each, Misfits::MeanNothing, &options.sort)
}

fn task_2011<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<Option<Event>, BadRow> {
    let [time, _, job, task, _, kind, _, _, priority, cpu, memory, disk, _] = lines.columns()?;
    let id = |column, field| number(column, field, 0, u64::MAX, "a number from 0");
    let of = (id("job ID", job)?, id("task index", task)?);
    let does = match number("event type", kind, 0, 8, "0 to 8")? {
        1 => Does::Comes,
        2..=6 => Does::Goes,
        _ => Does::Nothing,
    };
    let time = id("time", time)?;
    let request = || {
        let part = |column, field: &[u8], empty| match field {
            b"" if empty => Ok(0.0),
            field => decimal(column, field, 0.0, 1.0, "0 to 1 machine"),
        };
        let parts = [
            part("CPU request", cpu, false)?,
            part("memory request", memory, false)?,
            part("disk space request", disk, true)?,
        ];
        let priority = number("priority", priority, 0, 255, "0 to 255")?;
        comes(lines.number(), parts, machine, priority as u8)
    };
    event(lines.number(), of, time, does, request)
}

fn event(
    line: u64,
    of: (u64, u64),
    time_us: u64,
    does: Does,
    request: impl FnOnce() -> Result<Comes, Invalid>,
) -> Result<Option<Event>, BadRow> {
    // What happens after the end leaves everything as it is at the end.
    if time_us >= AFTER {
        return Ok(None);
    }
    let time_s = time_us / 1_000_000;
    if time_s > TraceRow::SECONDS_MAX {
        return Err(Invalid::new("time", time_us, "microseconds from 0 to 10^18").into());
    }
    Ok(match does {
        Does::Comes => Some(Event { line, of, time_s, comes: Some(request()?) }),
        Does::Goes => Some(Event { line, of, time_s, comes: None }),
        Does::Nothing => None,
    })
}

fn comes(
    line: u64,
    [cpus, memory, disk]: [f64; 3],
    machine: Resources,
    priority: u8,
) -> Result<Comes, Invalid> {
    Ok(Comes {
        // Each run of a task is a row of its own, and only its line tells it apart.
        vm: line,
        vcpus: lines::vcpus("cpus", share_of(machine.vcpus.get().into(), cpus))?,
        memory: lines::memory("memory", share_of(machine.memory.get(), memory))?,
        disk: lines::disk("disk", share_of(machine.disk.get(), disk))?,
        priority,
    })
}

/// A number, or one as text: exports write what may not fit a double as text.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number<'l> {
    Whole(i64),
    Decimal(f64),
    #[serde(borrow)]
    Text(Cow<'l, str>),
}

impl Number<'_> {
    fn whole(&self, column: &'static str, allowed: &'static str) -> Result<i64, Invalid> {
        match self {
            Self::Whole(number) => Ok(*number),
            Self::Decimal(number) => Err(Invalid::new(column, number, allowed)),
            Self::Text(text) => text.parse().map_err(|_| Invalid::new(column, text, allowed)),
        }
    }

    fn part(&self, column: &'static str) -> Result<f64, Invalid> {
        let allowed = "0 to 1 machine";
        let part = match self {
            Self::Whole(number) => *number as f64,
            Self::Decimal(number) => *number,
            Self::Text(text) => return decimal(column, text.as_bytes(), 0.0, 1.0, allowed),
        };
        let within = (0.0..=1.0).contains(&part);
        if within { Ok(part) } else { Err(Invalid::new(column, part, allowed)) }
    }
}

// What is absent is 0, as in the protocol buffers that these are made of; times and ids must be
// there.
#[derive(Deserialize)]
struct Instance<'l> {
    #[serde(borrow)]
    time: Number<'l>,
    #[serde(rename = "type")]
    kind: Option<Number<'l>>,
    collection_id: Number<'l>,
    instance_index: Option<Number<'l>>,
    collection_type: Option<Number<'l>>,
    alloc_collection_id: Option<Number<'l>>,
    priority: Option<Number<'l>>,
    resource_request: Option<Request<'l>>,
}

#[derive(Deserialize)]
struct Request<'l> {
    #[serde(borrow)]
    cpus: Option<Number<'l>>,
    memory: Option<Number<'l>>,
}

pub(super) fn instances_2019<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let machine = options.machine;
    let each = Each::new(Lines::new(reader), move |lines: &Lines<R>| instance_2019(lines, machine));
    events::rows(each, Misfits::MeanNothing, &options.sort)
}

fn instance_2019<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<Option<Event>, BadRow> {
    let instance: Instance<'_> = json::parse(lines.line())?;
    let whole = |column, number: &Option<Number<'_>>| {
        let number = number.as_ref().map_or(Ok(0), |number| number.whole(column, "a number"))?;
        u64::try_from(number).map_err(|_| Invalid::new(column, number, "a number from 0"))
    };
    // What runs inside an alloc has room there, and the alloc has a row of its own.
    if whole("alloc_collection_id", &instance.alloc_collection_id)? > 0 {
        return Ok(None);
    }
    let id = instance.collection_id.whole("collection_id", "a number")?;
    let of = (id.cast_unsigned(), whole("instance_index", &instance.instance_index)?);
    // Jobs and alloc sets have one sequence of ids, so these only need to be known kinds.
    let collection = whole("collection_type", &instance.collection_type)?;
    if collection > 1 {
        return Err(Invalid::new("collection_type", collection, "0 or 1").into());
    }
    let does = kind_2019(instance.kind.as_ref())?;
    let time = instance.time.whole("time", "microseconds from 0")?;
    let time =
        u64::try_from(time).map_err(|_| Invalid::new("time", time, "microseconds from 0"))?;
    let request = || {
        let request = instance.resource_request.as_ref();
        let part = |column, number: Option<&Number<'_>>| match number {
            Some(number) => number.part(column),
            None => Err(Invalid::new(column, "nothing", "0 to 1 machine")),
        };
        let cpus = part("cpus", request.and_then(|request| request.cpus.as_ref()))?;
        let memory = part("memory", request.and_then(|request| request.memory.as_ref()))?;
        let priority = whole("priority", &instance.priority)?;
        // They go up to 450, and halves keep the tiers apart.
        let priority = u8::try_from(priority / 2).unwrap_or(u8::MAX);
        comes(lines.number(), [cpus, memory, 0.0], machine, priority)
    };
    event(lines.number(), of, time, does, request)
}

fn kind_2019(kind: Option<&Number<'_>>) -> Result<Does, Invalid> {
    const NAMES: [&str; 11] = [
        "SUBMIT",
        "QUEUE",
        "ENABLE",
        "SCHEDULE",
        "EVICT",
        "FAIL",
        "FINISH",
        "KILL",
        "LOST",
        "UPDATE_PENDING",
        "UPDATE_RUNNING",
    ];
    let allowed = "0 to 10 or the name of an event";
    let number = match kind {
        None => 0,
        Some(Number::Text(text)) if NAMES.contains(&&**text) => {
            NAMES.iter().position(|name| *name == &**text).map_or(-1, |at| at as i64)
        }
        Some(number) => number.whole("type", allowed)?,
    };
    match number {
        3 => Ok(Does::Comes),
        4..=8 => Ok(Does::Goes),
        0..=10 => Ok(Does::Nothing),
        other => Err(Invalid::new("type", other, allowed)),
    }
}
