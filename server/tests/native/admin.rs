use tollgate_proto::tollgate::v1 as wire;
use tonic::{Code, Request, Status};

use crate::check::{NOW, RULES};
use crate::native_world::{Native, TOKEN, check, descriptor};
use crate::rls_world::World;

async fn served(token: &str) -> (World, Native) {
    let world = World::new(RULES, NOW);
    let native = Native::serve(world.engine.clone(), token).await;
    (world, native)
}

fn with_token<M>(message: M, token: &str) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

fn question(keys: &[&str]) -> (String, Vec<wire::Descriptor>) {
    ("d".into(), keys.iter().map(|key| descriptor(key, "v")).collect())
}

async fn read(native: &Native, keys: &[&str]) -> Vec<wire::KeyState> {
    let (domain, descriptors) = question(keys);
    let request = with_token(wire::ReadKeyRequest { domain, descriptors }, TOKEN);
    native.admin.clone().read_key(request).await.unwrap().into_inner().keys
}

async fn reset(native: &Native, keys: &[&str], token: &str) -> Result<Vec<bool>, Status> {
    let (domain, descriptors) = question(keys);
    let request = with_token(wire::ResetKeyRequest { domain, descriptors }, token);
    native.admin.clone().reset_key(request).await.map(|answer| answer.into_inner().reset)
}

#[tokio::test]
async fn a_key_is_read_without_being_charged() {
    let (_world, native) = served(TOKEN).await;
    native.limiter.clone().check(check(&["three", "bucket"])).await.unwrap();
    for _ in 0..5 {
        let keys = read(&native, &["nobody", "three", "bucket"]).await;
        let [nobody, three, bucket] = &keys[..] else { panic!("{keys:?}") };
        assert!(nobody.key.is_empty() && nobody.algorithm.is_empty() && nobody.used == 0);
        assert_eq!((three.used, &*three.algorithm), (1, "fixed_window"));
        assert_eq!(three.status.as_ref().unwrap().remaining, 2);
        assert_eq!(three.status.as_ref().unwrap().rule, "three");
        assert!(three.key.starts_with(b"r"));
        assert_eq!((bucket.used, &*bucket.algorithm), (1, "token_bucket"));
    }
}

#[tokio::test]
async fn a_reset_key_is_as_new() {
    let (_world, native) = served(TOKEN).await;
    let three = || wire::CheckRequest { cost: Some(3), ..check(&["three"]) };
    assert!(native.limiter.clone().check(three()).await.unwrap().into_inner().allowed);
    assert!(!native.limiter.clone().check(three()).await.unwrap().into_inner().allowed);
    assert_eq!(reset(&native, &["nobody", "three"], TOKEN).await.unwrap(), [false, true]);
    assert!(native.limiter.clone().check(three()).await.unwrap().into_inner().allowed);
}

#[tokio::test]
async fn only_the_token_opens() {
    let (_world, native) = served(TOKEN).await;
    for wrong in ["", "wrong", "letmein2"] {
        assert_eq!(reset(&native, &["three"], wrong).await.unwrap_err().code(), Code::Unauthenticated);
    }
    let (domain, descriptors) = question(&["three"]);
    let bare = native.admin.clone().read_key(wire::ReadKeyRequest { domain, descriptors }).await;
    assert_eq!(bare.unwrap_err().code(), Code::Unauthenticated);
    let (_world, closed) = served("").await;
    assert_eq!(reset(&closed, &["three"], "").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_an_error() {
    let (_world, native) = served(TOKEN).await;
    let status = reset(&native, &[], TOKEN).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "descriptors: must not be empty"));
}
