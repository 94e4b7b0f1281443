//! Huawei-East-1: creations and deletions of a month.

use std::io::Read;

use nova_core::domain::GiB;

use super::events::{self, Comes, Event, Misfits};
use super::lines::{self, Each, Lines, number};
use super::{BadRow, ReadOptions, Rows, TraceError};

const HEADER: &str = "vmid,cpu,memory,time,type";

pub(super) fn is_header(line: &[u8]) -> bool {
    line == HEADER.as_bytes()
}

pub(super) fn rows<R: Read + Send + 'static>(
    reader: R,
    options: &ReadOptions,
) -> Result<Rows, TraceError> {
    let (lines, ()) =
        Lines::with_header(reader, HEADER, |line: &[u8]| is_header(line).then_some(()))?;
    let each = Each::new(lines, |lines: &Lines<R>| event(lines).map(Some));
    Ok(events::rows(each, Misfits::AreBad, &options.sort))
}

fn event<R: Read>(lines: &Lines<R>) -> Result<Event, BadRow> {
    let [vm, cpu, memory, time, kind] = lines.columns()?;
    let vm = number("vmid", vm, 0, u64::MAX, "a number from 0")?;
    let time_s = lines::seconds("time", time)?;
    let comes = match number("type", kind, 0, 1, "0 (creation) or 1 (deletion)")? {
        0 => Some(Comes {
            vm,
            vcpus: lines::vcpus("cpu", number("cpu", cpu, 1, 4096, lines::VCPUS)?)?,
            memory: {
                let gb = number("memory", memory, 1, 65536, "1 to 65536 GB")?;
                lines::memory("memory", gb << 10)?
            },
            disk: GiB(0),
            priority: 0,
        }),
        _ => None,
    };
    Ok(Event { line: lines.number(), of: (vm, 0), time_s, comes })
}
