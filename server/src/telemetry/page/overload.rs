//! What the page shows of overload.

use tollgate_core::load::criticality::Criticality;

use super::instruments::Kind::{Counter, Gauge};
use super::instruments::{Shown, label};

pub(super) const ALL: [Shown; 2] = [
    Shown {
        name: "tollgate.overload.shed",
        help: "checks that were shed, by how critical they are",
        kind: Counter,
        read: |counts, observer| {
            let Some(read) = counts.watched.overload.get() else { return };
            let shed = read().shed;
            for class in Criticality::ALL {
                let times = shed[usize::from(class.index())];
                observer.observe(times, &[label("criticality", class.as_str())]);
            }
        },
    },
    Shown {
        name: "tollgate.overload.workers",
        help: "workers that shed checks at present",
        kind: Gauge,
        read: |counts, observer| {
            if let Some(read) = counts.watched.overload.get() {
                observer.observe(read().shedding, &[]);
            }
        },
    },
];
