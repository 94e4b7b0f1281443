//! Reading a trace: what one row costs in each form.

use std::hint::black_box;
use std::io::Cursor;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nova_core::seed::Seed;
use nova_sched::sim::trace::sort::{SortOptions, by_arrival};
use nova_sched::sim::trace::synthetic::{Recipe, Synthetic};
use nova_sched::sim::trace::{
    Columns, JsonWriter, ReadOptions, TraceReader, TraceRow, TraceWriter, read,
};

const ROWS: u64 = 100_000;

fn rows() -> Vec<TraceRow> {
    let recipe = Recipe::default().with_rows(ROWS).with_cpu_permille(0, 1000);
    Synthetic::new(recipe, Seed::new(1)).expect("a good recipe").collect()
}

fn plain(rows: &[TraceRow], columns: Columns) -> Vec<u8> {
    let mut writer = TraceWriter::new(Vec::new(), columns).expect("memory takes it");
    rows.iter().for_each(|row| writer.write(row).expect("a good row"));
    writer.finish().expect("memory takes it")
}

fn reading(criterion: &mut Criterion) {
    let rows = rows();
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Elements(ROWS));
    for (name, columns) in [("core", Columns::Core), ("all", Columns::All)] {
        let text = plain(&rows, columns);
        group.bench_function(BenchmarkId::new("plain", name), |bencher| {
            bencher.iter(|| {
                let rows = TraceReader::new(black_box(text.as_slice())).expect("a header");
                rows.map(|row| row.expect("a good row").arrival_s).sum::<u64>()
            });
        });
        group.bench_function(BenchmarkId::new("plain, recognised and boxed", name), |bencher| {
            bencher.iter(|| {
                let reader = Cursor::new(text.clone());
                let rows = read(reader, None, &ReadOptions::default()).expect("a header");
                rows.map(|row| row.expect("a good row").arrival_s).sum::<u64>()
            });
        });
    }
    let mut json = JsonWriter::new(Vec::new());
    rows.iter().for_each(|row| json.write(row).expect("a good row"));
    let text = json.finish().expect("memory takes it");
    group.bench_function("json", |bencher| {
        bencher.iter(|| {
            let rows = read(Cursor::new(text.clone()), None, &ReadOptions::default());
            rows.expect("a row").map(|row| row.expect("a good row").arrival_s).sum::<u64>()
        });
    });
    group.finish();
}

fn making(criterion: &mut Criterion) {
    let rows = rows();
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("written", |bencher| {
        bencher.iter(|| plain(black_box(&rows), Columns::All).len());
    });
    group.bench_function("made of chance", |bencher| {
        bencher.iter(|| {
            let recipe = Recipe::default().with_rows(ROWS);
            Synthetic::new(recipe, Seed::new(1)).expect("a good recipe").count()
        });
    });
    for (name, bytes) in [("in memory", 1 << 30), ("in 1 MiB", 1 << 20)] {
        group.bench_function(BenchmarkId::new("sorted", name), |bencher| {
            bencher.iter(|| {
                let backwards = rows.iter().rev().map(|row| Ok(*row));
                let options = SortOptions::default().with_memory_bytes(bytes);
                by_arrival(backwards, options).count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reading, making);
criterion_main!(benches);
