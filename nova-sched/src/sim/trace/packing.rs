//! Azure's trace for packing (2020): the CSV of its two tables.

use std::collections::BTreeMap;
use std::io::Read;

use nova_core::domain::{GiB, Invalid, MiB, Resources, Vcpus};

use super::lines::{self, Each, Lines, decimal, number, share_of};
use super::sort::Sorted;
use super::{BadRow, ReadOptions, Rows, TraceError, TraceRow};

const HEADER: &str = "vmId,tenantId,vmTypeId,priority,starttime,endtime";
const TYPES_HEADER: &str = "id,vmTypeId,machineId,core,memory,hdd,ssd,nic";

/// The table of types has some thousand rows.
const TYPES_MAX: usize = 1_000_000;

/// Days that a trace may be away from its start.
const DAYS_MAX: f64 = 1e6;
const DAYS: &str = "days from -10^6 to 10^6";

/// What VMs of a type are given.
#[derive(Debug, Clone, Copy)]
struct Shape {
    machine: u64,
    vcpus: Vcpus,
    memory: MiB,
    disk: GiB,
}

pub(super) fn is_header(line: &[u8]) -> bool {
    line.eq_ignore_ascii_case(HEADER.as_bytes())
}

pub(super) fn rows<R: Read + Send + 'static>(
    reader: R,
    types: impl Read,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    let types = shapes(types, options).map_err(|error| TraceError::VmTypes(Box::new(error)))?;
    let lines = header(reader, HEADER)?;
    let each = Each::new(lines, move |lines: &Lines<R>| row(lines, &types).map(Some));
    Ok(Box::new(Sorted::new(each, options.sort.clone())))
}

fn header<R: Read>(reader: R, expected: &'static str) -> Result<Lines<R>, TraceError> {
    let is_header = |line: &[u8]| line.eq_ignore_ascii_case(expected.as_bytes()).then_some(());
    Ok(Lines::with_header(reader, expected, is_header)?.0)
}

/// The types, each with one shape: that on the machine that was named, or on the machine with the
/// lowest number that can hold it.
fn shapes(reader: impl Read, options: &ReadOptions) -> Result<BTreeMap<u64, Shape>, TraceError> {
    let mut lines = header(reader, TYPES_HEADER)?;
    let mut shapes = BTreeMap::new();
    while lines.advance()? {
        let bad = |why| TraceError::BadRow { line: lines.number(), why };
        let (vm_type, shape) = shape(&lines, options.machine).map_err(bad)?;
        if options.machine_id.is_some_and(|machine| machine != shape.machine) {
            continue;
        }
        if shapes.len() == TYPES_MAX {
            return Err(TraceError::TooMany { what: "VM types", max: TYPES_MAX });
        }
        let kept = shapes.entry(vm_type).or_insert(shape);
        if shape.machine < kept.machine {
            *kept = shape;
        }
    }
    Ok(shapes)
}

fn shape<R: Read>(lines: &Lines<R>, machine: Resources) -> Result<(u64, Shape), BadRow> {
    let [_, vm_type, machine_id, core, memory, _, ssd, _] = lines.columns()?;
    let part = |column, field: &[u8], empty| match field {
        b"" if empty => Ok(0.0),
        field => decimal(column, field, 0.0, 1.0, "0 to 1 machine"),
    };
    let cores = share_of(machine.vcpus.get().into(), part("core", core, false)?);
    let mib = share_of(machine.memory.get(), part("memory", memory, false)?);
    let gib = share_of(machine.disk.get(), part("ssd", ssd, true)?);
    let shape = Shape {
        machine: id("machineId", machine_id)?,
        vcpus: lines::vcpus("core", cores)?,
        memory: lines::memory("memory", mib)?,
        disk: lines::disk("ssd", gib)?,
    };
    Ok((id("vmTypeId", vm_type)?, shape))
}

fn row<R: Read>(lines: &Lines<R>, types: &BTreeMap<u64, Shape>) -> Result<TraceRow, BadRow> {
    let [vm, _, vm_type, priority, start, end] = lines.columns()?;
    let vm_type = id("vmTypeId", vm_type)?;
    let shape = types.get(&vm_type).ok_or(BadRow::NoVmType { vm_type })?;
    let start = decimal("starttime", start, -DAYS_MAX, DAYS_MAX, DAYS)?;
    // What was there at the beginning has a start before it.
    let arrival_s = (start.max(0.0) * 86400.0).round() as u64;
    let end_s = match end {
        b"" | b"NULL" => None,
        end => {
            let days = decimal("endtime", end, 0.0, DAYS_MAX, "empty, or days from 0 to 10^6")?;
            Some((days * 86400.0).round() as u64)
        }
    };
    if let Some(end_s) = end_s.filter(|end_s| *end_s < arrival_s) {
        return Err(BadRow::EndsBeforeArrival { arrival_s, end_s });
    }
    let low = number("priority", priority, 0, 1, "0 (high) or 1 (low)")?;
    Ok(TraceRow {
        line: lines.number(),
        vm: id("vmId", vm)?,
        arrival_s,
        end_s,
        vcpus: shape.vcpus,
        memory: shape.memory,
        disk: shape.disk,
        priority: u8::from(low == 0),
        gang: None,
        cpu_permille: None,
    })
}

fn id(column: &'static str, field: &[u8]) -> Result<u64, Invalid> {
    number(column, field, 0, u64::MAX, "a number from 0")
}
