//! Alibaba's cluster traces: v2017, v2018 and the GPU cluster of 2023 (openb).

use std::io::Read;

use nova_core::domain::{GiB, Invalid, Resources};

use super::events::{self, Comes, Event, Misfits};
use super::lines::{self, Each, Lines, decimal, number, share_of};
use super::sort::Sorted;
use super::{BadRow, ReadOptions, Rows, TraceError, TraceRow};

/// A task of more instances is a damaged row.
const INSTANCES_MAX: u64 = 1_000_000;

const PODS_HEADER: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time";

pub(super) fn is_event_2017(line: &[u8]) -> bool {
    lines::split::<8>(line).is_ok_and(|row| matches!(row[1], b"Create" | b"Remove"))
}

pub(super) fn is_container_2018(line: &[u8]) -> bool {
    let row = lines::split::<8>(line);
    row.is_ok_and(|row| row[0].starts_with(b"c_") && row[1].starts_with(b"m_"))
}

pub(super) fn is_task_2018(line: &[u8]) -> bool {
    let row = lines::split::<9>(line);
    row.is_ok_and(|row| row[2].starts_with(b"j_") && lines::digits(row[1]).is_some())
}

pub(super) fn is_pods_header(line: &[u8]) -> bool {
    line == PODS_HEADER.as_bytes()
}

/// Containers of 2017: container_event.
pub(super) fn events_2017<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let machine = options.machine;
    let each =
        Each::new(Lines::new(reader), move |lines: &Lines<R>| event_2017(lines, machine).map(Some));
    events::rows(each, Misfits::AreBad, &options.sort)
}

fn event_2017<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<Event, BadRow> {
    let [time, event, instance, _, cpu, memory, disk, _] = lines.columns()?;
    let vm = number("instance_id", instance, 0, u64::MAX, "a number from 0")?;
    let time_s = before_is_zero("ts", time)?;
    let comes = match event {
        b"Remove" => None,
        b"Create" => {
            let part = |column, field| decimal(column, field, 0.0, 1.0, "0 to 1 machine");
            let cores = decimal("plan_cpu", cpu, 0.0, 4096.0, "0 to 4096 cores")?;
            let mib = share_of(machine.memory.get(), part("plan_mem", memory)?);
            let gib = share_of(machine.disk.get(), part("plan_disk", disk)?);
            Some(Comes {
                vm,
                vcpus: lines::vcpus("plan_cpu", share_of(1, cores))?,
                memory: lines::memory("plan_mem", mib)?,
                disk: lines::disk("plan_disk", gib)?,
                priority: 0,
            })
        }
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(Invalid::new("event", other, "Create or Remove").into());
        }
    };
    Ok(Event { line: lines.number(), of: (vm, 0), time_s, comes })
}

/// Containers of 2018: container_meta, which tells them again whenever their state changes.
pub(super) fn containers_2018<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let machine = options.machine;
    let each = Each::new(Lines::new(reader), move |lines: &Lines<R>| {
        container_2018(lines, machine).map(Some)
    });
    events::rows(each, Misfits::MeanNothing, &options.sort)
}

fn container_2018<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<Event, BadRow> {
    let [id, _, time, _, _, cpu, _, memory] = lines.columns()?;
    let digits = id.strip_prefix(b"c_").and_then(lines::digits);
    let vm = digits.ok_or_else(|| {
        Invalid::new("container_id", String::from_utf8_lossy(id), "c_ and a number")
    })?;
    let comes = Comes {
        vm,
        vcpus: lines::vcpus("cpu_request", hundredths("cpu_request", cpu)?)?,
        memory: lines::memory("mem_size", percent("mem_size", memory, machine.memory.get())?)?,
        disk: GiB(0),
        priority: 0,
    };
    let time_s = before_is_zero("time_stamp", time)?;
    Ok(Event { line: lines.number(), of: (vm, 0), time_s, comes: Some(comes) })
}

/// Tasks of 2018: batch_task, a row for each instance.
pub(super) fn tasks_2018<R: Read + Send + 'static>(reader: R, options: &ReadOptions) -> Rows {
    let machine = options.machine;
    let each =
        Each::new(Lines::new(reader), move |lines: &Lines<R>| task_2018(lines, machine).map(Some));
    let instances = each.flat_map(|task| {
        let (row, count, error) = match task {
            Ok((row, count)) => (Some(row), count, None),
            Err(error) => (None, 0, Some(error)),
        };
        let rows = (0..count).filter_map(move |_| row).map(Ok);
        error.into_iter().map(Err).chain(rows)
    });
    let mut vm = 0;
    let numbered = instances.map(move |row: Result<TraceRow, TraceError>| {
        let row = row?;
        vm += 1;
        Ok(TraceRow { vm, ..row })
    });
    Box::new(Sorted::new(numbered, options.sort.clone()))
}

fn task_2018<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<(TraceRow, u64), BadRow> {
    let [_, instances, _, _, _, start, end, cpu, memory] = lines.columns()?;
    let count = number("instance_num", instances, 1, INSTANCES_MAX, "1 to 1000000")?;
    let arrival_s = before_is_zero("start_time", start)?;
    // 0 is before or after the trace: of a start the former, of an end the latter.
    let end_s = Some(before_is_zero("end_time", end)?).filter(|end_s| *end_s > 0);
    match end_s {
        None if arrival_s == 0 => return Err(BadRow::NeverRuns),
        Some(end_s) if end_s < arrival_s => {
            return Err(BadRow::EndsBeforeArrival { arrival_s, end_s });
        }
        _ => {}
    }
    let row = TraceRow {
        line: lines.number(),
        vm: 0,
        arrival_s,
        end_s,
        vcpus: lines::vcpus("plan_cpu", hundredths("plan_cpu", cpu)?)?,
        memory: lines::memory("plan_mem", percent("plan_mem", memory, machine.memory.get())?)?,
        disk: GiB(0),
        priority: 0,
        gang: None,
        cpu_permille: None,
    };
    Ok((row, count))
}

/// Pods of 2023.
pub(super) fn pods_2023<R: Read + Send + 'static>(
    reader: R,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    let is_header = |line: &[u8]| is_pods_header(line).then_some(());
    let (lines, ()) = Lines::with_header(reader, PODS_HEADER, is_header)?;
    let each = Each::new(lines, |lines: &Lines<R>| pod_2023(lines).map(Some));
    Ok(Box::new(Sorted::new(each, options.sort.clone())))
}

fn pod_2023<R: Read>(lines: &Lines<R>) -> Result<TraceRow, BadRow> {
    let [_, cpu, memory, _, _, _, qos, _, created, deleted, _] = lines.columns()?;
    let milli = number("cpu_milli", cpu, 0, 4_096_000, "0 to 4096000")?;
    let mib = number("memory_mib", memory, 0, u64::MAX, "a number from 0")?;
    let arrival_s = lines::seconds("creation_time", created)?;
    let end_s = match deleted {
        b"" => None,
        deleted => Some(lines::seconds("deletion_time", deleted)?),
    };
    if let Some(end_s) = end_s.filter(|end_s| *end_s < arrival_s) {
        return Err(BadRow::EndsBeforeArrival { arrival_s, end_s });
    }
    Ok(TraceRow {
        line: lines.number(),
        vm: lines.number(),
        arrival_s,
        end_s,
        vcpus: lines::vcpus("cpu_milli", milli.div_ceil(1000))?,
        memory: lines::memory("memory_mib", mib)?,
        disk: GiB(0),
        priority: match qos {
            b"BE" => 0,
            b"Burstable" => 1,
            b"LS" | b"Guaranteed" => 2,
            other => {
                let other = String::from_utf8_lossy(other);
                let allowed = "BE, Burstable, LS or Guaranteed";
                return Err(Invalid::new("qos", other, allowed).into());
            }
        },
        gang: None,
        cpu_permille: None,
    })
}

/// Seconds; what is negative was before the trace, as 0 is.
fn before_is_zero(column: &'static str, field: &[u8]) -> Result<u64, Invalid> {
    match field.strip_prefix(b"-").map(lines::digits) {
        Some(Some(_)) => Ok(0),
        _ => lines::seconds(column, field),
    }
}

/// Hundredths of a core as whole cores.
fn hundredths(column: &'static str, field: &[u8]) -> Result<u64, Invalid> {
    let allowed = "0 to 409600 hundredths of a core";
    Ok(share_of(1, decimal(column, field, 0.0, 409_600.0, allowed)? / 100.0))
}

/// Hundredths of a machine; what is invalid is -1 or 101 in these traces.
fn percent(column: &'static str, field: &[u8], whole: u64) -> Result<u64, Invalid> {
    let share = decimal(column, field, 0.0, 100.0, "0 to 100 hundredths of a machine")?;
    Ok(share_of(whole, share / 100.0))
}
