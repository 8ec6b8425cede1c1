//! What Redis' errors mean for us.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::Fault;

/// The fault behind an error of the client.
pub(super) fn of(error: &RedisError) -> Fault {
    if error.is_timeout() {
        return Fault::Timeout;
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => Fault::Forbidden,
        ErrorKind::Server(kind) => of_server(kind, error.code().unwrap_or_default()),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Fault::Garbled,
        ErrorKind::Extension => of_text(error.code().unwrap_or_default()),
        _ => Fault::Unreachable,
    }
}

fn of_server(kind: ServerErrorKind, code: &str) -> Fault {
    match kind {
        ServerErrorKind::BusyLoading => Fault::Loading,
        ServerErrorKind::ReadOnly => Fault::ReadOnly,
        ServerErrorKind::NoPerm => Fault::Forbidden,
        ServerErrorKind::Moved
        | ServerErrorKind::Ask
        | ServerErrorKind::TryAgain
        | ServerErrorKind::ClusterDown
        | ServerErrorKind::MasterDown => Fault::Unreachable,
        _ => of_text(code),
    }
}

/// The fault behind the text of an error that a script met.
pub(super) fn of_text(text: &str) -> Fault {
    // an ACL that forbids a command to a script has no code of its own in Redis 7.0
    if text.contains("user executing the script can't") {
        return Fault::Forbidden;
    }
    // Redis 6.2 puts the place in the script before the code: `@user_script: 345: -OOM command not allowed`
    let mut words = text.split([' ', ':']).map(|word| word.trim_start_matches('-')).take(8);
    words.find_map(of_code).unwrap_or(Fault::Garbled)
}

fn of_code(code: &str) -> Option<Fault> {
    Some(match code {
        "OOM" => Fault::Full,
        "READONLY" | "NOREPLICAS" | "MISCONF" => Fault::ReadOnly,
        "LOADING" => Fault::Loading,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Fault::Forbidden,
        "BUSY" => Fault::Timeout,
        "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => Fault::Unreachable,
        _ => return None,
    })
}

/// Whether nothing was done because the slot is on its way to another server: the keys of one call may be in both
/// places.
///
/// `MOVED` is none of these: it was followed already, so the server that it names is gone. A replica says so for as
/// long as it is not in its master's place.
pub(super) fn is_of_the_move(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::TryAgain | ServerErrorKind::Ask))
}

/// Whether the server that answered so may be the wrong one, or none at all, so that a new connection may help.
pub(super) fn is_of_the_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                | ErrorKind::AuthenticationFailed
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_scripts_are_told_apart() {
        assert_eq!(of_text("OOM command not allowed when used memory > 'maxmemory'."), Fault::Full);
        assert_eq!(of_text("@user_script: 345: -OOM command not allowed"), Fault::Full);
        assert_eq!(of_text("-READONLY You can't write against a read only replica."), Fault::ReadOnly);
        assert_eq!(of_text("NOPERM this user has no permissions"), Fault::Forbidden);
        let acl = "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.";
        assert_eq!(of_text(acl), Fault::Forbidden);
        assert_eq!(of_text("MISCONF Redis is configured to save RDB snapshots"), Fault::ReadOnly);
        assert_eq!(of_text("ERR value is not an integer"), Fault::Garbled);
    }
}
