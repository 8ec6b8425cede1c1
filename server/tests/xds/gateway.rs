//! The program as Envoy Gateway starts it: its environment, a link called `ratelimit`, nothing to write to.

use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use tollgate_proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate_proto::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitPolicy};
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::management::{Management, descriptor};
use crate::world::{asks, health, http, soon};

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // both fail only if it has ended
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn connected(port: u16) -> Channel {
    let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    soon(async {
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

/// One rule as Envoy Gateway writes it: the route, then a condition on a header.
fn rules() -> RateLimitConfig {
    let limit = RateLimitPolicy { unit: 3, requests_per_unit: 2, ..RateLimitPolicy::default() };
    let route = "httproute/default/shop/rule/0/match/0/shop_example";
    let condition = descriptor("rule-0-match-0", "rule-0-match-0", Some(limit), Vec::new());
    RateLimitConfig {
        name: "default/eg/http".into(),
        domain: "default/eg/http".into(),
        descriptors: vec![descriptor(route, route, None, vec![condition])],
    }
}

#[tokio::test]
async fn envoy_gateways_environment_starts_it() {
    let mut management = Management::start().await;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("ratelimit");
    symlink(env!("CARGO_BIN_EXE_tollgate"), &program).unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let [grpc, http_port, admin, prometheus] = [(); 4].map(|()| free_port());
    let mut command = Command::new(&program);
    command.env_clear().current_dir(&work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let url = management.address.to_string();
    command.envs([
        ("RUNTIME_ROOT", "/data"),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_IGNOREDOTFILES", "true"),
        ("RUNTIME_WATCH_ROOT", "false"),
        ("LOG_LEVEL", "info"),
        ("USE_STATSD", "false"),
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", &url),
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_URL", "redis.redis-system.svc:6379"),
        ("USE_PROMETHEUS", "true"),
        ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
        // the test has no Redis, and no ports of its own
        ("TOLLGATE__STORE__KIND", "memory"),
    ]);
    command.env("GRPC_PORT", grpc.to_string()).env("PORT", http_port.to_string());
    command.env("DEBUG_PORT", admin.to_string()).env("PROMETHEUS_ADDR", format!(":{prometheus}"));
    let _program = Program(command.spawn().unwrap());

    let (mut call, first) = management.call().await;
    assert_eq!(first.node.unwrap().id, "envoy-ratelimit");
    let channel = connected(grpc).await;
    assert_eq!(health(&channel).await, ServingStatus::Serving);
    let answer = http(&format!("127.0.0.1:{http_port}"), "/healthcheck").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("OK"), "{answer}");

    let route = "httproute/default/shop/rule/0/match/0/shop_example";
    let entries = [(route, route), ("rule-0-match-0", "rule-0-match-0")];
    assert_eq!(asks(&channel, "default/eg/http", &entries).await.unwrap(), Code::Ok);
    let ack = call.sends("1", &[rules()]).await;
    assert_eq!((&*ack.version_info, ack.error_detail), ("1", None));
    for code in [Code::Ok, Code::Ok, Code::OverLimit] {
        assert_eq!(asks(&channel, "default/eg/http", &entries).await.unwrap(), code);
    }
    let page = http(&format!("127.0.0.1:{prometheus}"), "/metrics").await;
    assert!(page.contains("ratelimit_service_config_load_success 1"), "{page}");
    assert_eq!(std::fs::read_dir(&work).unwrap().count(), 0, "it writes nothing");
}
