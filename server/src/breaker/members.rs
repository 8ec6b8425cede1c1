//! Which server owns a circuit: rendezvous hashing (Thaler, Ravishankar 1998) over the servers that live. When one
//! goes, only its own circuits move; when one comes, only those that it takes.

use tollgate_core::load::random::hash_bytes;
use tollgate_core::load::rendezvous::Rendezvous;

use super::key::Key;

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its name among the servers of one Redis.
    pub name: String,
    /// Grows with every start of a server of that name.
    pub incarnation: u64,
    /// `host:port` of its gRPC port.
    pub address: String,
}

impl Member {
    /// The record that a server leaves for the others.
    #[must_use]
    pub fn to_record(&self) -> String {
        format!("{}|{}|{}", self.name, self.incarnation, self.address)
    }

    /// The server of such a record; `None` if it is none.
    #[must_use]
    pub fn from_record(record: &str) -> Option<Member> {
        let mut fields = record.splitn(3, '|');
        let (name, incarnation) = (fields.next()?, fields.next()?.parse().ok()?);
        let address = fields.next().filter(|address| !address.is_empty())?;
        (!name.is_empty()).then(|| Member { name: name.to_owned(), incarnation, address: address.to_owned() })
    }
}

/// All servers that live, as one of them sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Members {
    /// This server.
    me: String,
    /// All of them, in the order of their names: the same on every server.
    names: Vec<String>,
    ring: Rendezvous,
}

/// Who owns a circuit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner<'m> {
    /// This server.
    Me,
    /// Another one, by its name.
    Peer(&'m str),
}

impl Members {
    /// `me` and the `others`.
    pub fn new<'n>(me: &str, others: impl Iterator<Item = &'n str>) -> Members {
        let mut names: Vec<String> = others.map(str::to_owned).chain([me.to_owned()]).collect();
        names.sort_unstable();
        names.dedup();
        let ring = Rendezvous::even(names.iter().map(|name| hash_bytes(name.as_bytes())));
        Members { me: me.to_owned(), names, ring }
    }

    /// The owner of `key`.
    #[must_use]
    pub fn owner(&self, key: &Key) -> Owner<'_> {
        let alone = self.names.len() == 1;
        let owner = if alone { None } else { self.ring.owner(key.stable_hash()) };
        match owner.and_then(|place| self.names.get(place)) {
            Some(name) if *name != self.me => Owner::Peer(name),
            _ => Owner::Me,
        }
    }

    /// Whether this server owns `key`.
    #[must_use]
    pub fn is_mine(&self, key: &Key) -> bool {
        self.owner(key) == Owner::Me
    }

    /// The names of the other servers.
    pub fn others(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| *name != self.me)
    }

    /// The name of this server.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.me
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Key> {
        (0..3_000).map(|number| Key::new(["n", &format!("t{number}"), "", ""]).unwrap()).collect()
    }

    fn owner(of: &Key, servers: &[&str]) -> String {
        let members = Members::new(servers[0], servers.iter().copied());
        match members.owner(of) {
            Owner::Me => servers[0].to_owned(),
            Owner::Peer(name) => name.to_owned(),
        }
    }

    #[test]
    fn every_server_names_the_same_owner() {
        for key in keys() {
            let owners = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]].map(|order| owner(&key, &order));
            assert!(owners.iter().all(|owner| *owner == owners[0]), "{key} {owners:?}");
        }
    }

    #[test]
    fn servers_get_equal_shares_and_only_the_circuits_of_the_lost_one_move() {
        let mut shares = [0_u32; 3];
        for key in keys() {
            let before = owner(&key, &["a", "b", "c"]);
            shares[before.bytes().next().map_or(0, |letter| usize::from(letter - b'a'))] += 1;
            let after = owner(&key, &["a", "b"]);
            assert!(before == "c" || before == after, "{key} moved from {before} to {after}");
        }
        assert!(shares.iter().all(|share| (900..=1_100).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_record_is_read_back() {
        let member = Member { name: "a".into(), incarnation: 7, address: "[::1]:8081".into() };
        assert_eq!(Member::from_record(&member.to_record()), Some(member));
        for wrong in ["", "a", "a|7", "a|x|h:1", "|7|h:1", "a|7|"] {
            assert_eq!(Member::from_record(wrong), None, "{wrong}");
        }
    }
}
