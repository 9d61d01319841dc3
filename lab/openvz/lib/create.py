"""`vzctl create`: a container from a template's archive and a sample of a configuration.

Not imitated: what the distribution's own script does in a new root, fetching templates, and the check for free space.
"""

import os
import shutil

import actions
import codes
import conf as configuration
import log
import mounts
import paths
import save
import scripts
import setting
import text
from options import Option, Reader

# Option: key of the configuration file; None for the name of a sample.
KEYS = {
    "ostemplate": "OSTEMPLATE",
    "config": None,
    "private": "VE_PRIVATE",
    "root": "VE_ROOT",
    "ipadd": "IP_ADDRESS",
    "hostname": "HOSTNAME",
    "name": "NAME",
    "description": "DESCRIPTION",
    "layout": "VE_LAYOUT",
    "ve_layout": "VE_LAYOUT",
    "velayout": "VE_LAYOUT",
    "diskspace": "DISKSPACE",
    "diskinodes": "DISKINODES",
    "local_uid": "LOCAL_UID",
    "local_gid": "LOCAL_GID",
}
OPTIONS = [Option(name, True, "layout" if name in ("ve_layout", "velayout") else None) for name in KEYS]
ENDINGS = ("", ".gz", ".bz2", ".xz")
DOWNLOADER = "/usr/sbin/vztmpl-dl"
SCRIPT = f"{paths.CONF_DIR}/vps.create"
SCRIPT_KINDS = ("conf", "mount", "umount", "premount", "postumount", "start", "stop")


class _Failed(Exception):
    """Creation ends; the message is printed already."""

    def __init__(self, code, message=None, cause=None):
        super().__init__(code)
        self.code = code
        if message is not None:
            log.error(message, cause)


def parse(ctid, arguments):
    """Read the options of `create`."""
    import main

    wish, reader = setting.Wish(), Reader("vzctl", arguments, OPTIONS)
    for name, value in reader:
        if name is None:
            raise main.Refused(codes.BAD_VALUE)
        if name == "config":
            wish.sample = wish.sample or value
        else:
            setting.take(wish, KEYS[name], f"--{name}:", value, ctid)
    main.words_are_extra(reader.words)
    return wish


def create(ctid, conf, wish):
    """Make a container; conf is what holds for it before the command line. Returns an exit code."""
    path, copied = paths.conf(ctid), False
    try:
        sample = _sample(path, conf, wish)
        copied = sample is not None
        if copied:
            _apply_sample(ctid, path, sample, conf, wish)
        conf.override(wish)
        _check(ctid, conf, wish)
        _make_private_area(conf)
        _finish(ctid, path, conf, wish)
    except _Failed as failed:
        if copied and os.path.lexists(path):
            os.unlink(path)
        log.error("Creation of container private area failed")
        return failed.code
    log.info("Container private area was created")
    return codes.OK


def _sample(path, conf, wish):
    """Return the name of the sample that the container's configuration is made from, None for none."""
    exists, name = paths.exists(path), wish.sample or conf.get("CONFIGFILE")
    if name is None:
        return None
    source = _sample_file(name)
    if not paths.exists(source):
        log.error(f"Sample config {source} not found", FileNotFoundError(2, ""))
        if not wish.sample:
            log.error(f"Fix the value of CONFIGFILE in {paths.GLOBAL_CONF}")
        raise _Failed(codes.CANT_COPY_CONFIG)
    if not exists:
        return name
    if wish.sample:
        message = f"Error: container config file {path} already exists, can not use --config option"
        raise _Failed(codes.CANT_COPY_CONFIG, message)
    log.info("Warning: CT config file already exists, not applying a default config sample.")
    log.info("It might lead to incomplete CT configuration, you can use --applyconfig to fix.")
    return None


def _sample_file(name):
    return f"{paths.CONF_DIR}/ve-{name}.conf-sample"


def _apply_sample(ctid, path, name, conf, wish):
    try:
        shutil.copyfile(_sample_file(name), path)
    except OSError as err:
        raise _Failed(codes.CANT_COPY_CONFIG, f"Unable to open {path}", err) from err
    sample = configuration.parse(_sample_file(name), ctid) or configuration.Conf()
    conf.override(sample)
    if "ORIGIN_SAMPLE" not in sample:
        wish["ORIGIN_SAMPLE"] = name


def _check(ctid, conf, wish):
    for value, key, code in (
        (conf.get("TEMPLATE"), "TEMPLATE", codes.NO_TEMPLATE_DIR),
        (conf.private, "VE_PRIVATE", codes.NO_VE_PRIVATE),
        (conf.root, "VE_ROOT", codes.NO_VE_ROOT),
    ):
        if value is None:
            raise _Failed(code, f"{key} is not set")
    if not _is_empty(conf.private):
        raise _Failed(codes.PRIVATE_EXISTS, f"Private area already exists in {conf.private}")
    if conf.setdefault("VE_LAYOUT", "ploop").startswith("ploop"):
        mounts.say_no_ploop()
        log.error("Alternatively, if you can't or don't want to use ploop, please")
        log.error(f"add --layout simfs option, or set VE_LAYOUT=simfs in {paths.GLOBAL_CONF}")
        raise _Failed(codes.NO_PLOOP)
    if "NAME" in wish:
        code = save.set_name(ctid, wish["NAME"], wish["NAME"])
        if code:
            raise _Failed(code)
    if conf.setdefault("OSTEMPLATE", conf.get("DEF_OSTEMPLATE")) is None:
        raise _Failed(codes.NO_OSTEMPLATE, "OS template is not specified")


def _is_empty(folder):
    try:
        return not os.listdir(folder)
    except FileNotFoundError:
        return True
    except OSError as err:
        log.error(f"Can't opendir {folder}", err)
        return False


def _archive(conf):
    """Return the path of the template's archive."""
    base = f"{conf['TEMPLATE']}/cache/{conf['OSTEMPLATE']}.tar"
    for ending in ENDINGS:
        if paths.exists(base + ending):
            return base + ending
    log.error(f"File {DOWNLOADER} not found")
    raise _Failed(codes.TEMPLATE_NOT_FOUND, f"Cached OS template {base}[.gz|.bz2|.xz] not found")


def _make_private_area(conf):
    """Unpack the template beside the private area, and put it in its place when it is whole."""
    archive, private = _archive(conf), conf.private
    if os.path.isdir(private) and os.stat(private).st_dev != os.stat(f"{private}/..").st_dev:
        message = f"Can't create: private dir ({private}) is a mount point. Suggestion: use --private {private}/private"
        raise _Failed(codes.CANT_MAKE_PRIVATE, message)
    if not paths.make_dir(private):
        raise _Failed(codes.CANT_MAKE_PRIVATE)
    temporary = f"{private}.tmp"
    if paths.exists(temporary):
        log.error(f"Warning: Temp dir {temporary} already exists, deleting")
        shutil.rmtree(temporary)
    try:
        if not paths.make_dir(temporary):
            raise _Failed(codes.CANT_MAKE_PRIVATE, f"Unable to create directory {temporary}")
        log.info(f"Creating container private area ({conf['OSTEMPLATE']})")
        _unpack(archive, temporary)
        os.rmdir(private)
        os.rename(temporary, private)
    except OSError as err:
        raise _Failed(codes.CANT_MAKE_PRIVATE, f"Can't rename {temporary} to {private}", err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if os.path.isdir(private) and not os.listdir(private):
            os.rmdir(private)


def _unpack(archive, folder):
    os.chmod(folder, 0o700)
    if scripts.call(
        ["/bin/tar", "-C", folder, "--numeric-owner", "-Sp", "-xf", archive], {"PATH": paths.DEF_PATH}
    ):
        text.write(2, f"Unpack {archive} failed\n")
        raise _Failed(codes.CANT_MAKE_PRIVATE)
    os.chmod(folder, 0o755)


def _finish(ctid, path, conf, wish):
    """Set up, save and announce the new container; what was made is removed again if one of that fails."""
    try:
        _post_create(ctid, conf)
        for kind in SCRIPT_KINDS:
            destroyed = f"{paths.CONF_DIR}/{ctid}.{kind}.destroyed"
            if os.path.lexists(destroyed):
                os.unlink(destroyed)
        for key in ("VE_ROOT", "VE_PRIVATE"):
            wish.setdefault(key, conf[key])
        wish["OSTEMPLATE"] = os.path.basename(conf["OSTEMPLATE"])
        code = save.save(path, wish, conf)
        if code:
            raise _Failed(code)
        if scripts.run(SCRIPT, ctid):
            log.info(f"User create script {SCRIPT} exited with error")
            raise _Failed(codes.ACTION_SCRIPT)
    except _Failed:
        save.remove_names(ctid)
        if os.path.isdir(conf.root) and not os.path.ismount(conf.root) and not os.listdir(conf.root):
            os.rmdir(conf.root)
        actions.destroy_area(conf.private)
        raise


def _post_create(ctid, conf):
    code = mounts.mount_area(ctid, conf)
    if code:
        raise _Failed(code)
    log.info("Performing postcreate actions")
    mounts.umount_area(ctid, conf)
