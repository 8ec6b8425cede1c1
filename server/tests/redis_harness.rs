//! That the harness does what it says.

mod redis_world;

#[tokio::test]
async fn a_server_starts() {
    let server = redis_world::Server::start().await;
    assert_eq!(server.get::<String>(&["PING"]).await, "PONG");
}

#[tokio::test]
async fn a_cluster_starts() {
    let t = tokio::time::Instant::now();
    let cluster = redis_world::Cluster::start().await;
    eprintln!("{:?}", t.elapsed());
    let owner = cluster.owner_of("k").await;
    cluster.node(owner).kill9();
    let t = tokio::time::Instant::now();
    let p = cluster.wait_promoted(owner).await;
    eprintln!("promoted {:?}", p.at - t);
}

#[tokio::test]
async fn a_sentinel_starts() {
    let t = tokio::time::Instant::now();
    let w = redis_world::Sentinel::start().await;
    eprintln!("{:?}", t.elapsed());
    w.data(0).kill9();
    let t = tokio::time::Instant::now();
    let p = w.wait_promoted(0).await;
    eprintln!("sentinel promoted {:?}", p - t);
}
