"""Where the platform of a data folder is reached."""

from shoal.runtime.configuration import TOKEN_FILE, Config


def addresses_of(config: Config) -> dict[str, str]:
    """Each address by what it serves; Ray's only where `shoal up` starts Ray."""
    api = f"http://{config.host}:{config.port}"
    sign_in = config.console.sign_in
    found = {"api": api, "console": f"{sign_in.public_url if sign_in else api}/console"}
    if config.address is None:
        found["ray_client"] = f"ray://{config.host}:{config.ray_client_port}"
        found["ray_dashboard"] = f"http://{config.host}:{config.dashboard_port}"
    return found


def address_lines(config: Config) -> str:
    """The addresses for people (rich markup), and which token Ray asks for."""
    found = addresses_of(config)
    lines = [f"[bold]{name.replace('_', ' '):14}[/] {url}" for name, url in found.items()]
    if config.address is None:
        lines[-1] += f"   (its token is in {config.data.resolve() / TOKEN_FILE})"
    else:
        lines.append(f"The Ray dashboard is that of the cluster {config.address}")
    return "\n".join(f"  {line}" for line in lines)
