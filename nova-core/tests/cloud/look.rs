//! What a project sees of its servers that only their hosts know.

use nova_core::cloud::{ApiError, ImageSpec};
use nova_core::domain::{GuestUser, ImageFormat, ImageProperties, InstanceId, Password};
use nova_core::port::{AGENT_PROPERTY, CONSOLE_BYTES_MAX, GuestUse};

use crate::world::{World, run};

#[test]
fn a_project_reads_the_console_of_its_servers_and_of_no_others() {
    run(async |world: &mut World| {
        let server = world.boot("web").await.instance;
        let project = world.project();
        let host = &world.hosts[&server.host.unwrap()];
        host.write_console(server.id, b"no text: \xff\n");
        let log = project.console_log(server.id, 8).await.unwrap();
        assert_eq!(log, b"text: \xff\n");
        let all = project.console_log(server.id, usize::MAX).await.unwrap();
        assert_eq!(all, b"the guest boots\nno text: \xff\n");
        host.write_console(server.id, &vec![b'x'; CONSOLE_BYTES_MAX]);
        let all = project.console_log(server.id, usize::MAX).await.unwrap();
        assert_eq!(all, vec![b'x'; CONSOLE_BYTES_MAX]);
        let others = world.cloud.project("others".parse().unwrap());
        let refused = others.console_log(server.id, 1).await;
        assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
    });
}

#[test]
fn a_project_sees_what_its_servers_use_while_they_are_not_shut_down() {
    run(async |world: &mut World| {
        let id = world.boot("web").await.instance.id;
        let project = world.project();
        let server = project.server(id).await.unwrap();
        let macs: Vec<_> = server.ports.iter().map(|port| port.mac).collect();
        let used = project.server_use(id).await.unwrap();
        assert_eq!(used.nics.iter().map(|nic| nic.mac).collect::<Vec<_>>(), macs);
        assert_eq!(macs.len(), 1);
        world.done(project.stop(project.new_request(), id).await).await;
        assert_eq!(project.server_use(id).await.unwrap(), GuestUse::default());
        let others = world.cloud.project("others".parse().unwrap());
        let refused = others.server_use(id).await;
        assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
    });
}

#[test]
fn a_server_whose_host_cannot_say_has_no_console() {
    run(async |world: &mut World| {
        let server = world.boot("web").await;
        let (id, project) = (server.instance.id, world.project());
        let refused = project.console_log(InstanceId::from_u128(5), 1).await;
        assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
        world.cloud.stop_host(&server.host.unwrap()).await;
        let silent = project.console_log(id, 1).await;
        assert!(matches!(silent, Err(ApiError::Driver { .. })), "{silent:?}");
    });
    run(async |world: &mut World| {
        let id = world.boot("web").await.instance.id;
        let project = world.project();
        world.done(project.shelve_server(project.new_request(), id).await).await;
        let nowhere = project.console_log(id, 1).await;
        assert!(matches!(nowhere, Err(ApiError::Unsuitable { .. })), "{nowhere:?}");
    });
}

#[test]
fn a_project_has_the_agents_in_its_servers_set_passwords_and_in_no_others() {
    run(async |world: &mut World| {
        let (admin, project) = (world.admin(), world.project());
        let (user, password) = (GuestUser::new("root").unwrap(), Password::new("secret").unwrap());
        let without = world.boot("without").await.instance.id;
        assert!(!project.agent_answers(without).await.unwrap());
        let refused = project.set_password(without, &user, &password).await;
        assert!(matches!(refused, Err(ApiError::Driver { .. })), "{refused:?}");

        let properties = ImageProperties::new([(AGENT_PROPERTY, "True")]).unwrap();
        let image = ImageSpec::new("agent".parse().unwrap(), ImageFormat::Raw);
        let image = image.with_properties(properties);
        let bytes = Box::new(&b"a disk with an agent"[..]);
        world.image = admin.register_image(admin.new_request(), &image, bytes).await.unwrap();
        let server = world.boot("with").await.instance;
        assert!(project.agent_answers(server.id).await.unwrap());
        project.set_password(server.id, &user, &password).await.unwrap();
        let host = &world.hosts[&server.host.unwrap()];
        assert_eq!(host.password(server.id, &user), Some(password.clone()));

        let others = world.cloud.project("others".parse().unwrap());
        let refused = others.set_password(server.id, &user, &password).await;
        assert!(matches!(refused, Err(ApiError::NotFound { .. })), "{refused:?}");
        world.done(project.stop(project.new_request(), server.id).await).await;
        let silent = project.agent_answers(server.id).await;
        assert!(matches!(silent, Err(ApiError::Driver { .. })), "{silent:?}");
    });
}
