//! `tollgate health`: asks a running server by gRPC health. Exit code 0 serving, 1 not serving or not reached,
//! 2 bad input. Made for a container's health check: needs no shell and no other program.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{bad_input, effective};
use crate::cli::HealthArgs;
use crate::config::settings::{Grpc, duration};

pub(super) fn health(args: &HealthArgs) -> ExitCode {
    let target = match target(args) {
        Ok(target) => target,
        Err(error) => return bad_input(&error),
    };
    let Some(within) = duration::parse(&args.timeout).filter(|within| !within.is_zero()) else {
        return bad_input(&format!("--timeout {:?} is no duration such as 500ms or 3s", args.timeout));
    };
    match ask(&target, &args.service, within) {
        Ok(ServingStatus::Serving) => {
            println!("SERVING");
            ExitCode::SUCCESS
        }
        Ok(status) => not_healthy(status.as_str_name()),
        Err(error) => not_healthy(&format!("{error:#}")),
    }
}

fn not_healthy(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

/// Where to ask: `--addr`, else where the server of these settings listens.
fn target(args: &HealthArgs) -> Result<Endpoint, String> {
    let uri = match &args.addr {
        Some(addr) if addr.contains("://") || addr.starts_with("unix:") => addr.clone(),
        Some(addr) => format!("http://{addr}"),
        None => uri(&effective(&args.settings).map_err(|error| error.to_string())?.settings.grpc)?,
    };
    if uri.starts_with("https:") {
        return Err(format!("{uri}: the health check speaks plain HTTP/2 only"));
    }
    Endpoint::from_shared(uri.clone()).map_err(|error| format!("{uri}: {error}"))
}

/// The address of a server with these settings, from the same machine.
fn uri(grpc: &Grpc) -> Result<String, String> {
    if let Some(path) = &grpc.uds {
        return Ok(format!("unix:{}", path.display()));
    }
    if grpc.port == 0 {
        return Err("grpc.port is 0, so nobody knows the port beforehand: use --addr".to_owned());
    }
    // a server on all addresses is on the loopback too
    Ok(match (grpc.host.is_any(), grpc.host.is_dual_stack()) {
        (false, _) => format!("http://{}", grpc.host.with_port(grpc.port)),
        (true, false) => format!("http://127.0.0.1:{}", grpc.port),
        (true, true) => format!("http://[::1]:{}", grpc.port),
    })
}

fn ask(target: &Endpoint, service: &str, within: Duration) -> anyhow::Result<ServingStatus> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let asking = async {
            let channel = target.connect().await?;
            let request = HealthCheckRequest { service: service.to_owned() };
            let answer = HealthClient::new(channel).check(request).await;
            answer.map_err(|status| anyhow::anyhow!("{:?}: {}", status.code(), status.message()))
        };
        timeout(within, asking).await
    });
    match answer {
        Ok(answer) => Ok(answer?.into_inner().status()),
        Err(_) => anyhow::bail!("no answer within {within:?}"),
    }
}
