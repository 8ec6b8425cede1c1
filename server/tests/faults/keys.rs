//! Which counter is where.

use crate::redis_world::{Cluster, Server};

use super::limiter::{Limiter, store_of_cluster};

/// Names of counters by the master that has them, `per_master` for each of the three. Charges each once.
pub async fn values_by_master(nodes: &Cluster, per_master: usize) -> [Vec<String>; 3] {
    let limiter = Limiter::wide(&store_of_cluster(nodes));
    let mut values = [const { Vec::new() }; 3];
    for number in 0..1_000 {
        if values.iter().all(|values: &Vec<String>| values.len() >= per_master) {
            return values;
        }
        let value = format!("value-{number:03}");
        limiter.charges(&value).await;
        let key = only_key_of(nodes.nodes(), &value).await;
        let owner = nodes.owner_of(&key).await;
        if values[owner].len() < per_master {
            values[owner].push(value);
        }
    }
    panic!("slots are spread better than that");
}

/// The one key of ours that has `value` in its name.
pub async fn only_key_of(servers: &[Server], value: &str) -> String {
    let mut found = Vec::new();
    for server in servers {
        let keys = server.keys("tg:").await;
        found.extend(keys.into_iter().filter(|key| key.contains(value)));
    }
    // replicas show what their masters have
    found.sort();
    found.dedup();
    let [key] = found.as_slice() else { panic!("{value} is in {found:?}") };
    key.clone()
}
