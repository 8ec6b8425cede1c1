//! Who a caller is, and what it may do: domains bound to identities, and names that may change things.
//!
//! A caller is known by the names of its certificate or by a bearer token. [`Access::meet`] looks at a connection
//! once; what it finds is put on each of its requests, where the ways in read it as a [`Scope`]. While nothing is
//! bound and no writer is named, there is nothing to put on, and requests are not touched.

mod pattern;

use std::sync::Arc;

use http::{Extensions, Request, header};

pub use self::pattern::{DomainPattern, NamePattern};
use crate::admin;

/// The names in a verified certificate: DNS names and URIs of its subject alternative names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// The names, in the order of the certificate.
    pub names: Vec<Box<str>>,
}

/// What shows who a caller is.
#[derive(Clone)]
pub enum Who {
    /// A certificate with such a name.
    Name(NamePattern),
    /// A bearer token in the header `authorization`.
    Token(Box<str>),
}

/// An identity and its domains.
#[derive(Clone)]
pub struct Grant {
    /// The identity.
    pub who: Who,
    /// The domains that it may ask about.
    pub domains: Arc<[DomainPattern]>,
}

/// Which identities may do what.
#[derive(Clone, Default)]
pub struct Access {
    grants: Vec<Grant>,
    writers: Vec<NamePattern>,
}

/// The domains that one caller may ask about. A request without one may ask about all.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    domains: Arc<[Arc<[DomainPattern]>]>,
}

impl std::fmt::Debug for Access {
    /// Without tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("grants", &self.grants.len()).field("writers", &self.writers).finish()
    }
}

/// What is known of a connection, to be put on each of its requests.
#[derive(Clone)]
pub struct Introduction {
    access: Arc<Access>,
    /// What its certificate gives it; `None` while domains are bound to nobody.
    scope: Option<Scope>,
    may_write: bool,
}

impl Access {
    /// Domains that are bound to identities (none: every caller may ask about every domain), and the names of
    /// certificates that may change things besides the admin token.
    #[must_use]
    pub fn new(grants: Vec<Grant>, writers: Vec<NamePattern>) -> Access {
        Access { grants, writers }
    }

    /// What is to be put on the requests of a connection; `None` is nothing.
    #[must_use]
    pub fn meet(self: &Arc<Access>, peer: Option<&Peer>) -> Option<Introduction> {
        let has = |pattern: &NamePattern| {
            peer.is_some_and(|peer| peer.names.iter().any(|name| pattern.matches(name)))
        };
        let may_write = self.writers.iter().any(has);
        let by_name = |who: &Who| matches!(who, Who::Name(pattern) if has(pattern));
        let scope = (!self.grants.is_empty()).then(|| self.scope(by_name));
        (may_write || scope.is_some()).then(|| Introduction { access: self.clone(), scope, may_write })
    }

    /// The same without domains: for a port of operators.
    #[must_use]
    pub fn writers_only(&self) -> Access {
        Access { grants: Vec::new(), writers: self.writers.clone() }
    }

    fn scope(&self, is: impl Fn(&Who) -> bool) -> Scope {
        let domains = self.grants.iter().filter(|grant| is(&grant.who)).map(|grant| grant.domains.clone());
        Scope { domains: domains.collect() }
    }
}

impl Introduction {
    /// Puts on `request` what its sender may do. False: the sender is nobody whom the settings name, though they
    /// name somebody.
    pub fn mark<B>(&self, request: &mut Request<B>) -> bool {
        let Some(mut scope) = self.scope.clone() else {
            self.let_write(request);
            return true;
        };
        if scope.is_empty() {
            let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| admin::bearer(value));
            let is_sent = |who: &Who| match (who, sent) {
                (Who::Token(token), Some(sent)) => admin::same(sent, token.as_bytes()),
                _ => false,
            };
            scope = self.access.scope(is_sent);
        }
        let is_known = !scope.is_empty();
        request.extensions_mut().insert(scope);
        self.let_write(request);
        is_known
    }

    fn let_write<B>(&self, request: &mut Request<B>) {
        if self.may_write {
            admin::vouch(request.headers_mut());
        }
    }
}

impl Scope {
    /// The scope on a request; `None` if its sender may ask about every domain.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Scope> {
        extensions.get::<Scope>()
    }

    /// Whether the caller may ask about `domain`.
    #[must_use]
    pub fn permits(&self, domain: &str) -> bool {
        self.domains.iter().flat_map(|granted| granted.iter()).any(|pattern| pattern.matches(domain))
    }

    fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }
}

/// Whether whoever sent a request with `extensions` may ask about `domain`.
#[must_use]
pub fn permits(extensions: &Extensions, domain: &str) -> bool {
    Scope::of(extensions).is_none_or(|scope| scope.permits(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(who: Who, domains: &[&str]) -> Grant {
        Grant { who, domains: domains.iter().map(|domain| DomainPattern::parse(domain).unwrap()).collect() }
    }

    fn named(name: &str) -> Who {
        Who::Name(NamePattern::parse(name).unwrap())
    }

    fn peer(name: &str) -> Peer {
        Peer { names: vec![name.into()] }
    }

    /// Whether a request with that `authorization` is from somebody known, and may ask about `shop` and `bank`.
    fn asks(access: &Arc<Access>, peer: Option<&Peer>, authorization: &str) -> (bool, bool, bool) {
        let request = Request::builder().header(header::AUTHORIZATION, authorization);
        let mut request = request.body(()).unwrap();
        let is_known = access.meet(peer).is_none_or(|introduction| introduction.mark(&mut request));
        let may = |domain| permits(request.extensions(), domain);
        (is_known, may("shop"), may("bank"))
    }

    #[test]
    fn nothing_is_put_on_while_nothing_is_bound() {
        assert!(Arc::new(Access::default()).meet(Some(&peer("a"))).is_none());
        assert_eq!(asks(&Arc::default(), None, ""), (true, true, true));
    }

    #[test]
    fn a_caller_has_the_domains_of_all_its_names_and_no_others() {
        let grants = vec![
            grant(named("spiffe://x/shop"), &["shop*"]),
            grant(named("*.bank.example"), &["bank"]),
            grant(Who::Token("t0ken".into()), &["bank"]),
        ];
        let access = Arc::new(Access::new(grants, Vec::new()));
        assert_eq!(asks(&access, Some(&peer("spiffe://x/shop")), ""), (true, true, false));
        assert_eq!(asks(&access, Some(&peer("a.bank.example")), ""), (true, false, true));
        let both = Peer { names: vec!["spiffe://x/shop".into(), "a.bank.example".into()] };
        assert_eq!(asks(&access, Some(&both), ""), (true, true, true));
        assert_eq!(asks(&access, Some(&peer("spiffe://x/shop2")), ""), (false, false, false));
        assert_eq!(asks(&access, None, "Bearer t0ken"), (true, false, true));
        assert_eq!(asks(&access, None, "Bearer t0ke"), (false, false, false));
        let shop = peer("spiffe://x/shop");
        assert_eq!(
            asks(&access, Some(&shop), "Bearer t0ken"),
            (true, true, false),
            "its certificate decides"
        );
    }

    #[test]
    fn a_writer_may_write_and_nobody_else() {
        let access = Arc::new(Access::new(Vec::new(), vec![NamePattern::parse("ops.example").unwrap()]));
        let writes = admin::Writes::with("");
        let mut request = Request::new(());
        assert!(access.meet(Some(&peer("ops.example"))).unwrap().mark(&mut request));
        assert!(writes.permit(request.headers()).is_ok());
        assert!(access.meet(Some(&peer("dev.example"))).is_none());
        assert!(writes.permit(Request::new(()).headers()).is_err());
    }
}
