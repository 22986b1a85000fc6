//! The process, under the names that all Prometheus clients use.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process {
    started: f64,
}

impl Process {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    pub(super) fn started_now() -> Self {
        Self { started: chrono::Utc::now().timestamp_millis() as f64 / 1000.0 }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let started = ConstGauge::new(self.started);
        let help = "When the process started";
        let named = encoder.encode_descriptor("process_start_time_seconds", help, None, started.metric_type())?;
        started.encode(named)?;
        if let Some(held) = resident() {
            let held = ConstGauge::new(held);
            let help = "Memory that the process holds";
            let named = encoder.encode_descriptor("process_resident_memory_bytes", help, None, held.metric_type())?;
            held.encode(named)?;
        }
        Ok(())
    }
}

/// What Linux says; elsewhere nothing.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
