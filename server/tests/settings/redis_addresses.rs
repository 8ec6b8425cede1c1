//! The forms of `store.redis.url`, and how to log in.

use proptest::prelude::*;
use tollgate_server::config::settings::{
    Redis, RedisAddress, RedisAddresses, RedisKind, RedisLogin, RedisPlace, RedisSocket, Secret, SecretUrl,
};

fn redis(kind: RedisKind, url: &str) -> Redis {
    Redis { kind, url: SecretUrl::from(url.to_owned()), ..Redis::default() }
}

fn single(url: &str) -> Redis {
    redis(RedisKind::Single, url)
}

fn secret(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn login(user: &str, password: &str) -> RedisLogin {
    let user = Some(user.to_owned()).filter(|user| !user.is_empty());
    RedisLogin { user, password: Some(secret(password)).filter(|password| !password.is_empty()) }
}

fn tcp(host: &str, port: u16) -> RedisAddress {
    let place = RedisPlace::Tcp { host: host.to_owned(), port };
    RedisAddress { place, tls: false, login: RedisLogin::default(), database: 0 }
}

fn unix(path: &str) -> RedisAddress {
    RedisAddress { place: RedisPlace::Unix(path.into()), ..tcp("", 0) }
}

fn is(address: RedisAddress) -> Result<RedisAddresses, String> {
    Ok(RedisAddresses::Single(address))
}

#[test]
fn a_host_and_a_port_or_a_path() {
    for (text, address) in [
        ("redis:6379", tcp("redis", 6_379)),
        ("10.0.0.1:1", tcp("10.0.0.1", 1)),
        ("my_redis.shop.svc.cluster.local:65535", tcp("my_redis.shop.svc.cluster.local", 65_535)),
        ("[::1]:7000", tcp("::1", 7_000)),
        ("[fe80::1%eth0]:7000", tcp("fe80::1%eth0", 7_000)),
        ("/var/run/redis.sock", unix("/var/run/redis.sock")),
        ("./redis.sock", unix("./redis.sock")),
        ("/run/a,b:1", unix("/run/a,b:1")),
        ("unix:///run/redis.sock", unix("/run/redis.sock")),
        ("UNIX:///run/redis.sock", unix("/run/redis.sock")),
    ] {
        assert_eq!(single(text).addresses(), is(address), "{text}");
    }
}

#[test]
fn the_socket_decides_what_has_no_scheme() {
    let with = |socket, text| Redis { socket, ..single(text) }.addresses();
    assert_eq!(with(RedisSocket::Unix, "redis:6379"), is(unix("redis:6379")));
    assert_eq!(with(RedisSocket::Unix, "run/redis.sock"), is(unix("run/redis.sock")));
    assert_eq!(with(RedisSocket::Unix, "redis://redis:1"), is(tcp("redis", 1)));
    assert_eq!(with(RedisSocket::Tcp, "redis:6379"), is(tcp("redis", 6_379)));
    assert_eq!(with(RedisSocket::Tcp, "unix:///run/redis.sock"), is(unix("/run/redis.sock")));
    assert_eq!(
        with(RedisSocket::Tcp, "/run/redis.sock"),
        Err("store.redis.url has a host that is neither an IP address nor a host name".to_owned())
    );
}

#[test]
fn a_url_states_login_tls_and_database() {
    for (text, host, port, of) in [
        ("redis://redis", "redis", 6_379, login("", "")),
        ("redis://redis:1/", "redis", 1, login("", "")),
        ("redis://redis:1/0", "redis", 1, login("", "")),
        ("redis://[::1]", "::1", 6_379, login("", "")),
        ("redis://[::1]:2", "::1", 2, login("", "")),
        ("redis://:hunter2@redis", "redis", 6_379, login("", "hunter2")),
        ("redis://ann:hunter2@redis:1", "redis", 1, login("ann", "hunter2")),
        ("redis://ann:hun:ter@2@redis:1", "redis", 1, login("ann", "hun:ter@2")),
        ("redis://:a/b?c#d@redis:1", "redis", 1, login("", "a/b?c#d")),
        ("redis://a%6en:%40%3a%2F@redis:1", "redis", 1, login("ann", "@:/")),
        ("redis://:100%@redis:1", "redis", 1, login("", "100%")),
        ("redis://:%zz%4@redis:1", "redis", 1, login("", "%zz%4")),
    ] {
        assert_eq!(single(text).addresses(), is(RedisAddress { login: of, ..tcp(host, port) }), "{text}");
    }
    assert_eq!(single("rediss://redis:1").addresses(), is(RedisAddress { tls: true, ..tcp("redis", 1) }));
    assert_eq!(
        Redis { database: 15, ..single("redis://redis:1/15") }.addresses(),
        is(RedisAddress { database: 15, ..tcp("redis", 1) })
    );
    assert_eq!(
        Redis { database: 3, ..single("redis:1") }.addresses(),
        is(RedisAddress { database: 3, ..tcp("redis", 1) })
    );
}

#[test]
fn the_settings_add_login_and_tls() {
    for (auth, expected) in [
        ("hunter2", login("", "hunter2")),
        ("ann:hun:ter2", login("ann", "hun:ter2")),
        (":hunter2", login("", "hunter2")),
        ("100%25", login("", "100%25")),
    ] {
        let redis = Redis { auth: secret(auth), tls: true, ..single("redis:1") };
        assert_eq!(redis.addresses(), is(RedisAddress { login: expected, tls: true, ..tcp("redis", 1) }));
    }
    let same = Redis { auth: secret("ann:x"), ..single("redis://ann:x@redis:1") };
    assert_eq!(same.addresses(), is(RedisAddress { login: login("ann", "x"), ..tcp("redis", 1) }));
    assert!(same.addresses().is_ok_and(|addresses| !addresses.uses_tls()));
}

#[test]
fn an_auth_file_is_read_and_trimmed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth");
    std::fs::write(&file, "\n ann:hunter2 \r\n").unwrap();
    let redis = Redis { auth_file: Some(file.clone()), ..single("redis:1") };
    assert_eq!(redis.addresses(), is(RedisAddress { login: login("ann", "hunter2"), ..tcp("redis", 1) }));

    let both = Redis { auth: secret("x"), ..redis.clone() };
    assert_eq!(
        both.addresses().unwrap_err(),
        "store.redis.auth and store.redis.auth_file are both set: unset one"
    );
    assert_eq!((redis.login(), both.login()), (Some(login("ann", "hunter2")), None));
    std::fs::write(&file, " \n").unwrap();
    let shown = file.display().to_string();
    assert_eq!(redis.addresses().unwrap_err(), format!("store.redis.auth_file: {shown}: is empty"));
    std::fs::remove_file(&file).unwrap();
    let error = redis.addresses().unwrap_err();
    assert!(error.starts_with(&format!("store.redis.auth_file: {shown}: No such file")), "{error}");
}

#[test]
fn sentinels_come_after_the_name_of_their_master() {
    let redis = Redis {
        auth: secret("data"),
        sentinel_auth: secret("ann:watch"),
        database: 4,
        tls: true,
        ..redis(RedisKind::Sentinel, "my-master_1.x, s1:26379,redis://[::1]:2")
    };
    let sentinel = |host, port| RedisAddress { tls: true, login: login("ann", "watch"), ..tcp(host, port) };
    assert_eq!(
        redis.addresses(),
        Ok(RedisAddresses::Sentinel {
            master: "my-master_1.x".to_owned(),
            sentinels: vec![sentinel("s1", 26_379), sentinel("::1", 2)],
        })
    );
    assert!(redis.addresses().is_ok_and(|addresses| addresses.uses_tls()));
    assert_eq!(redis.login(), Some(login("", "data")));
    assert_eq!(Redis { auth: secret(""), ..redis }.login(), None);
}

#[test]
fn a_cluster_is_a_list_of_some_nodes() {
    let seeds = redis(RedisKind::Cluster, "a:1,rediss://[::1]:2");
    let node = |host, port| RedisAddress { tls: true, login: login("", "x"), ..tcp(host, port) };
    let expected = RedisAddresses::Cluster(vec![node("a", 1), node("::1", 2)]);
    assert_eq!(Redis { auth: secret("x"), ..seeds }.addresses(), Ok(expected));
    assert_eq!(redis(RedisKind::Cluster, "a:1").addresses(), Ok(RedisAddresses::Cluster(vec![tcp("a", 1)])));
    assert_eq!(
        redis(RedisKind::Cluster, "redis://:x@a:1,redis://:y@b:1").addresses().unwrap_err(),
        "store.redis.url: address 2 differs from the first one in its user or password"
    );
}

#[test]
fn what_is_no_address_says_why() {
    for (text, why) in [
        ("redis", "has no port"),
        ("redis:", "has a port that is no number from 1 to 65535"),
        ("redis:0", "has a port that is no number from 1 to 65535"),
        ("redis:65536", "has a port that is no number from 1 to 65535"),
        ("redis:+1", "has a port that is no number from 1 to 65535"),
        ("redis:6379/0", "has a port that is no number from 1 to 65535"),
        (":6379", "has no host"),
        ("[]:6379", "has no host"),
        ("[redis]:6379", "has no host"),
        (
            "::1:6379",
            "has an IPv6 address without brackets, or is none of host:port, a path and a redis:// URL",
        ),
        ("a b:6379", "has a host that is neither an IP address nor a host name"),
        ("hunter2@redis:6379", "has a host that is neither an IP address nor a host name"),
        ("1.2.3:6379", "has a host that is neither an IP address nor a host name"),
        (
            "a:1,b:1",
            "has an IPv6 address without brackets, or is none of host:port, a path and a redis:// URL; a list \
             needs store.redis.kind = \"cluster\" or \"sentinel\"",
        ),
        ("http://redis", "has a scheme that is none of redis, rediss and unix"),
        ("redis://", "has no host"),
        ("redis://redis/16", "has a database that is no number from 0 to 15"),
        ("redis://redis/+1", "has a database that is no number from 0 to 15"),
        ("redis://redis/a", "has a database that is no number from 0 to 15"),
        ("redis://redis/1/2", "has a database that is no number from 0 to 15"),
        ("redis://redis/1", "names another database than store.redis.database = 0"),
        ("redis://ann@redis", "has a user without a password"),
        ("redis://ann:@redis", "has a user without a password"),
        ("redis://:%ff@redis", "has a user or a password that is not UTF-8"),
        (
            "redis://redis?db=1",
            "has a part after ? or #, which is not supported: use the settings of store.redis",
        ),
        (
            "unix:///run/redis.sock?db=1",
            "has a part after ? or #, which is not supported: use the settings of store.redis",
        ),
        ("unix://redis.sock", "needs an absolute path, as in unix:///run/redis.sock"),
    ] {
        assert_eq!(single(text).addresses().unwrap_err(), format!("store.redis.url {why}"), "{text}");
    }
}

#[test]
fn what_is_no_list_says_why() {
    const MASTER: &str = "store.redis.url has to be the master's name and its sentinels: master,host:port,…";
    const TCP: &str = "store.redis.url: address 1 is a Unix socket; a cluster or sentinels are reached over TCP \
                       (store.redis.socket)";
    const DATABASE: &str = "store.redis.url: address 1 has a database, which a cluster or a sentinel has not";
    for (kind, text, expected) in [
        (RedisKind::Sentinel, "master", MASTER),
        (RedisKind::Sentinel, "s1:1,s2:1", MASTER),
        (RedisKind::Sentinel, "redis://s1:1,s2:1", MASTER),
        (RedisKind::Sentinel, ",s1:1", MASTER),
        (RedisKind::Sentinel, "master,", "store.redis.url: address 1 is empty"),
        (RedisKind::Sentinel, "master,/run/redis.sock", TCP),
        (RedisKind::Sentinel, "master,redis://s1/1", DATABASE),
        (RedisKind::Cluster, "a:1,,b:1", "store.redis.url: address 2 is empty"),
        (RedisKind::Cluster, "a:1,b", "store.redis.url: address 2 has no port"),
        (RedisKind::Cluster, "/run/redis.sock", TCP),
        (RedisKind::Cluster, "redis://a/1", DATABASE),
    ] {
        assert_eq!(redis(kind, text).addresses().unwrap_err(), expected, "{text}");
    }
    let database = Redis { database: 1, ..redis(RedisKind::Cluster, "a:1") };
    assert_eq!(
        database.addresses().unwrap_err(),
        "a cluster has no other database than 0, and store.redis.database = 1"
    );
    let explicit = Redis { socket: RedisSocket::Unix, ..redis(RedisKind::Cluster, "a:1") };
    assert_eq!(explicit.addresses().unwrap_err(), TCP);
}

#[test]
fn settings_that_contradict_the_address_say_so() {
    let with_auth = |auth: &str, url: &str| Redis { auth: secret(auth), ..single(url) }.addresses();
    assert_eq!(
        with_auth("other", "redis://:hunter2@redis:1").unwrap_err(),
        "store.redis.url names another user or password than store.redis.auth: leave one of them out"
    );
    assert_eq!(with_auth("ann:", "redis:1").unwrap_err(), "store.redis.auth: has a user without a password");
    let sentinel = Redis {
        sentinel_auth: secret("other"),
        ..redis(RedisKind::Sentinel, "master,redis://:hunter2@s1:1")
    };
    assert_eq!(
        sentinel.addresses().unwrap_err(),
        "store.redis.url names another user or password than store.redis.sentinel_auth: leave one of them out"
    );
    let tls = Redis { tls: true, ..single("/run/redis.sock") };
    assert_eq!(tls.addresses().unwrap_err(), "there is no TLS over a Unix socket: unset store.redis.tls");
    assert!(Redis::default().addresses().unwrap_err().contains("store.redis.url (REDIS_URL)"));
}

#[test]
fn passwords_are_never_shown() {
    let redis = Redis {
        auth: secret("hunter2"),
        sentinel_auth: secret("hunter2"),
        ..redis(RedisKind::Sentinel, "master,redis://:hunter2@s1:1")
    };
    let addresses = redis.addresses();
    assert!(addresses.is_ok());
    assert!(!format!("{redis:?}{addresses:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn no_text_brings_it_down_or_is_quoted(
        before in "(redis://|rediss://|unix://|[a-z]{0,4}://)?[a-z@:/%,\\[\\]]{0,8}",
        after in "[a-z0-9@:/%,?\\[\\]é.]{0,12}",
        kind in prop::sample::select(vec![RedisKind::Single, RedisKind::Sentinel, RedisKind::Cluster]),
        socket in prop::sample::select(vec![RedisSocket::Auto, RedisSocket::Unix, RedisSocket::Tcp]),
    ) {
        let redis = Redis { socket, ..redis(kind, &format!("{before}HUNTER2{after}")) };
        if let Err(why) = redis.addresses() {
            prop_assert!(why.starts_with("store.redis.url"), "{}", why);
            prop_assert!(!why.contains("HUNTER2"), "{}", why);
        }
    }

    #[test]
    fn any_login_survives_its_way_through_a_url(user in "\\PC{1,8}", password in "\\PC{1,8}") {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let url = format!("redis://{}:{}@redis:1", encoded(&user), encoded(&password));
        let expected = RedisAddress { login: login(&user, &password), ..tcp("redis", 1) };
        prop_assert_eq!(single(&url).addresses(), is(expected));
    }
}
