use std::cell::RefCell;
use std::rc::Rc;

use super::Error;
use crate::testing::{Listener, host, pause, wait};

#[derive(Debug)]
pub struct Subscription {
    listener: Rc<Listener>,
}

impl Subscription {
    pub async fn next(&self) -> Result<String, Error> {
        Ok(wait(|_| self.listener.messages.borrow_mut().pop_front()).await)
    }
}

pub fn broadcast(topic: &str, message: &str, keep: bool) -> Result<(), Error> {
    let host = host();
    for listener in host.listeners.borrow().iter().filter(|listener| listener.topic == topic) {
        listener.messages.borrow_mut().push_back(message.to_string());
    }
    if keep {
        host.kept.borrow_mut().push((topic.to_string(), message.to_string()));
    }
    Ok(())
}

pub fn subscribe(topic: &str, kept: bool) -> Result<Subscription, Error> {
    let host = host();
    let before = host.kept.borrow();
    let before = before.iter().filter(|(of, _)| kept && of == topic).map(|(_, message)| message.clone());
    let listener = Rc::new(Listener { topic: topic.to_string(), messages: RefCell::new(before.collect()) });
    host.listeners.borrow_mut().push(listener.clone());
    Ok(Subscription { listener })
}

pub fn forget(topic: &str) -> Result<(), Error> {
    host().kept.borrow_mut().retain(|(of, _)| of != topic);
    Ok(())
}

pub async fn push(queue: String, message: String) -> Result<(), Error> {
    pause().await;
    host().queues.borrow_mut().entry(queue).or_default().push_back(message);
    Ok(())
}

pub async fn pull(queue: String) -> Result<String, Error> {
    Ok(wait(|host| host.queues.borrow_mut().get_mut(&queue)?.pop_front()).await)
}
