// Preloaded (node --import), it keeps a server that names no address on 127.0.0.1: Portkey's gateway listens on every interface otherwise.
import net from "node:net"

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, host, ...rest) {
  if (typeof port !== "number") throw new Error("loopback.mjs knows listen(port, host, ...) alone")
  return listen.call(this, port, host ?? "127.0.0.1", ...rest)
}
