//! Whether spans are sent to a collector, and where: what the config says, or the standard's variables of the environment.

use std::sync::Arc;

use anyhow::Result;
use trace::Telemetry;

use crate::config::TelemetrySettings;

/// Where a collector is, for the spans or for all it takes.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Begins to send spans, if a collector is configured.
///
/// # Errors
/// When its address is none.
pub(crate) fn start(settings: &TelemetrySettings) -> Result<Option<Arc<Telemetry>>> {
    let is_configured =
        settings.otlp_endpoint.is_some() || ENDPOINTS.iter().any(|name| variable(name).is_some());
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if !is_configured || is_disabled {
        return Ok(None);
    }
    let is_named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    let service = (!is_named).then_some("pie");
    Ok(Some(Arc::new(Telemetry::start(settings.otlp_endpoint.as_deref(), service)?)))
}

/// Sends what is left, and says what was lost.
pub(crate) fn shutdown(telemetry: &Telemetry) {
    let lost = tokio::task::block_in_place(|| telemetry.shutdown());
    if lost > 0 {
        tracing::warn!(spans = lost, "spans did not reach the collector");
    }
}
