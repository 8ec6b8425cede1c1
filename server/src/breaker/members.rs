//! Which server owns a circuit: rendezvous hashing (Thaler, Ravishankar 1998) over the servers that live. When one
//! goes, only its own circuits move; when one comes, only those that it takes.

use tollgate_core::load::random::{hash_bytes, mix64};

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
    /// The others: in the order of their names.
    others: Vec<Candidate>,
    own_hash: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Candidate {
    name: String,
    hash: u64,
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
        let candidate = |name: &str| Candidate { name: name.to_owned(), hash: hash_bytes(name.as_bytes()) };
        let mut others: Vec<Candidate> = others.filter(|name| *name != me).map(candidate).collect();
        others.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        others.dedup();
        Members { me: me.to_owned(), own_hash: hash_bytes(me.as_bytes()), others }
    }

    /// The owner of `key`: the one with the highest score.
    #[must_use]
    pub fn owner(&self, key: &Key) -> Owner<'_> {
        if self.others.is_empty() {
            return Owner::Me;
        }
        let hash = key.stable_hash();
        let score = |server: u64| mix64(hash ^ server);
        let mine = (score(self.own_hash), self.me.as_str());
        let best = self.others.iter().map(|other| (score(other.hash), other.name.as_str())).max();
        match best {
            Some(best) if best > mine => Owner::Peer(best.1),
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
        self.others.iter().map(|other| other.name.as_str())
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
