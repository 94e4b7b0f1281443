//! The tables of a bench as Parquet files beside the CSV.

use std::io;

use super::ExperimentError;
use super::bench::{Bench, Outcome};
use super::compare::Comparison;
use super::files::{failed, write};
use super::table::{results_parquet, series_parquet};
use crate::sim::Report;

impl Bench {
    /// With every table as a Parquet file too, `NAME.parquet` beside `NAME.csv`, whenever results
    /// are written: by [`results`](Self::results) and [`publish`](Self::publish), those of earlier
    /// runs as well. Columns have the same names, and types: see
    /// [`results_parquet`](super::results_parquet). The same inputs give the same bytes.
    #[must_use]
    pub fn with_parquet(mut self) -> Self {
        self.parquet = true;
        self
    }

    /// What was sampled in a run, where that is wanted.
    pub(super) fn write_series(&self, id: &str, report: &Report) -> Result<(), ExperimentError> {
        self.table(&format!("series/{id}.parquet"), || series_parquet(report))
    }

    /// The results, where that is wanted.
    pub(super) fn write_results(&self, outcomes: &[Outcome]) -> Result<(), ExperimentError> {
        self.table("results.parquet", || results_parquet(outcomes))
    }

    /// The comparison, where that is wanted.
    pub(super) fn write_comparison(&self, comparison: &Comparison) -> Result<(), ExperimentError> {
        self.table("comparison.parquet", || comparison.columns().parquet())
    }

    fn table(
        &self,
        name: &str,
        table: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> Result<(), ExperimentError> {
        if !self.parquet {
            return Ok(());
        }
        let path = self.folder().join(name);
        write(&path, &table().map_err(|source| failed(&path, source))?)
    }
}
